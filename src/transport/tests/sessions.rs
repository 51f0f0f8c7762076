//! Sessions with servers that want one, and servers that have none to give.

use super::*;

/// A server with sessions: the newest login's token is good until `expire` is asked for.
fn with_sessions(asked: Arc<std::sync::Mutex<Vec<String>>>) -> SocketAddr {
    let valid = Arc::new(std::sync::Mutex::new((0_u32, false)));
    server(move |request, stream| {
        let line = request.lines().next().unwrap_or_default().to_owned();
        let mut valid = valid.lock().unwrap();
        let token = |number: u32| format!("x-auth-token: t0ken-{number}\r\n");
        let is_open = valid.1 && request.to_lowercase().contains(token(valid.0).trim());
        let answer = if line.starts_with("POST /sessions ") {
            if request.ends_with(r#"{"UserName":"agent","Password":"s3c\"ret"}"#) {
                *valid = (valid.0 + 1, true);
                format!(
                    "HTTP/1.1 201 Created\r\n{}location: /sessions/{}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                    token(valid.0),
                    valid.0
                )
            } else {
                "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                    .to_owned()
            }
        } else if is_open && line.starts_with("DELETE ") {
            valid.1 = false;
            "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned()
        } else if is_open && !request.contains("authorization") {
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".to_owned()
        } else {
            "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()
        };
        if line.starts_with("GET ") && asked.lock().unwrap().len() == 2 {
            // It expires after the second question.
            valid.1 = false;
        }
        asked.lock().unwrap().push(line.replace(" HTTP/1.1", ""));
        drop(stream.write_all(answer.as_bytes()));
    })
}

#[tokio::test]
async fn a_session_is_opened_once_and_again_when_it_has_expired_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    write_secret(&password, "s3c\"ret");
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let address = with_sessions(Arc::clone(&asked));
    let login = Login::Session {
        user: "agent".to_owned(),
        password: SecretPlace::File(password.clone()),
        path: "/sessions",
    };
    let address = format!("http://{address}").parse().unwrap();
    let site = Site::checked(address, Default::default(), Some(login)).unwrap();
    let server = Outbound.open(&site).unwrap();
    let request = Request {
        path: "/power",
        body: None,
        headers: &[],
        within: Duration::from_secs(60),
        answer_bytes_max: 1_000,
    };
    for _ in 0..3 {
        let mut taken = Vec::new();
        let mut on_piece = |piece: &[u8]| {
            taken.extend_from_slice(piece);
            Ok(())
        };
        let answer = server.ask(&request, &mut on_piece).await.unwrap();
        assert_eq!((answer.status, taken.as_slice()), (200, &b"ok"[..]));
    }
    server.leave().await;
    server.leave().await;
    write_secret(&password, "wrong");
    let refused = server.ask(&request, &mut |_| Ok(())).await.unwrap();
    assert_eq!(refused.status, 401);
    let expected = [
        "POST /sessions",
        "GET /power",
        "GET /power",
        "GET /power",
        "POST /sessions",
        "GET /power",
        "DELETE /sessions/2",
        "POST /sessions",
    ];
    assert_eq!(*asked.lock().unwrap(), expected);
    assert!(!format!("{server:?}").contains("t0ken"));
}

#[tokio::test]
async fn a_server_without_a_session_to_give_says_which_way_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    write_secret(&password, "s3cret");
    let asked = async |answer: &'static [u8]| {
        let login = Login::Session {
            user: "agent".to_owned(),
            password: SecretPlace::File(password.clone()),
            path: "/sessions",
        };
        let address = format!("http://{}", answering(answer)).parse().unwrap();
        let site = Site::checked(address, Default::default(), Some(login)).unwrap();
        let request = Request {
            path: "/power",
            body: None,
            headers: &[],
            within: Duration::from_secs(60),
            answer_bytes_max: 1_000,
        };
        let server = Outbound.open(&site).unwrap();
        server.ask(&request, &mut |_| Ok(())).await
    };
    // A refusal of the login is one, however it is written.
    for refused in [
        &b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"[..],
        b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ] {
        assert_eq!(asked(refused).await.unwrap().status, 401);
    }
    for (answer, class, words) in [
        (
            &b"HTTP/1.1 405 Method Not Allowed\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"[..],
            "malformed",
            "set login = \"basic\"",
        ),
        (
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
            "malformed",
            "no X-Auth-Token",
        ),
        (
            b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "unreachable",
            "too many of them",
        ),
    ] {
        let (found, text) = told(&asked(answer).await.unwrap_err());
        assert!(found == class && text.contains(words), "{found}: {text}");
    }
}
