//! Vectors that the standards print, as far as our profile has a use for them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cms_attest::add_checkpoint::AddCheckpoint;
use cms_attest::note::{Note, signature_lines};
use cms_attest::request::{Incoming, verify};
use cms_attest::{Digest, Jwk, SigningKey};

fn bytes(hex: &str) -> Vec<u8> {
    let at = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(at).collect()
}

/// RFC 8032, section 7.1: seed, public key, message, signature.
const ED25519: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

#[test]
fn rfc_8032_signatures() {
    for [seed, public, message, signature] in ED25519.map(|vector| vector.map(bytes)) {
        let key = SigningKey::from_seed(&seed.try_into().unwrap()).unwrap();
        assert_eq!(key.verifying().as_bytes()[..], public);
        assert_eq!(key.sign(&message)[..], signature);
        assert!(key.verifying().verifies(&message, &signature));
    }
}

#[test]
fn rfc_8037_appendix_a() {
    let seed = URL_SAFE_NO_PAD
        .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
        .unwrap();
    let key = SigningKey::from_seed(&seed.try_into().unwrap()).unwrap();
    let public =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(
        serde_json::to_string(&Jwk::from(*key.verifying())).unwrap(),
        public
    );
    // A.4 and A.5: the signature over the encoded header and text of a JWS.
    let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let expected =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(URL_SAFE_NO_PAD.encode(key.sign(signed)), expected);
}

#[test]
fn rfc_9530_digests() {
    for (content, header) in [
        (
            &b""[..],
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        ),
        (
            b"{\"hello\": \"world\"}",
            "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        ),
        (
            b"{\"hello\": \"world\"}\n",
            "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
        ),
    ] {
        assert_eq!(Digest::of(content).content_digest(), header);
        assert_eq!(
            Digest::parse_content_digest(header),
            Ok(Digest::of(content))
        );
    }
    // Right for the same content, and weaker or merely other than the one that the profile takes.
    for other in [
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        "md5=:Sd/dVLAcvNLSq16eXua5uQ==:",
        "sha=:07CavjDP4u3/TungoUHJO/Wzr4c=:",
        "unixsum=:AAAAAAAAGC0=:",
        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:, unixsum=:AAAAAAAAGC0=:",
    ] {
        assert!(Digest::parse_content_digest(other).is_err(), "{other}");
    }
}

/// A signature that the standard calls valid, and that says nothing for us: no tag, no digest, no nonce.
#[test]
fn the_example_of_rfc_9421_is_no_submission() {
    let headers = |name: &str| {
        let value = match name {
            "content-type" => "application/json",
            "content-digest" => "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
            "idempotency-key" => "\"018f4d2a-7b1c-7def-8123-456789abcdef:1:42\"",
            "cms-ledger" => "index=42, leaf=:n5EWH0NDPkmm3m22gNefYBWfLkrJFyYhoShGQoFYRAs=:",
            "signature-input" => {
                "cms=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
                 ;created=1618884473;keyid=\"test-key-ed25519\""
            }
            "signature" => {
                "cms=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"
            }
            _ => return Vec::new(),
        };
        vec![value.to_owned()]
    };
    let body = b"{\"hello\": \"world\"}";
    let incoming = Incoming {
        method: "POST",
        path: "/foo",
        headers: &headers,
        body,
    };
    let now = "2021-04-20T02:07:56Z".parse().unwrap();
    let refused = verify(&incoming, "example.com", now, &|_| None).unwrap_err();
    assert_eq!(refused.code(), "signature_parameters");
}

/// A submission that another implementation of RFC 9421 signed, with its parameters in an order of its own.
#[test]
fn a_submission_that_others_signed_is_verified() {
    let headers: Vec<(&str, &str)> = include_str!("theirs_headers.txt")
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .collect();
    let values = |name: &str| {
        let named = headers.iter().filter(|(known, _)| *known == name);
        named.map(|(_, value)| (*value).to_owned()).collect()
    };
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let incoming = Incoming {
        method: "POST",
        path: "/api/v1/telemetry/ghost-compute",
        headers: &values,
        body: b"{\"company_id\":\"acme-corp\"}",
    };
    let now = "2026-01-16T15:46:00Z".parse().unwrap();
    let checked = |authority| verify(&incoming, authority, now, &|_| Some(*key.verifying()));
    let verified = checked("dashboard.example").unwrap();
    assert_eq!((*verified.nonce(), verified.ledger().index), ([9; 16], 42));
    assert_eq!(
        checked("other.example").unwrap_err().code(),
        "signature_invalid"
    );
}

/// The example of C2SP signed-note.
#[test]
fn a_note_with_empty_lines_and_other_letters() {
    let text = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned \u{e8} subito sera.\n";
    let note = format!(
        "{text}\n\u{2014} quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
    );
    let read: Note = note.parse().unwrap();
    assert_eq!(read.text(), text);
    assert_eq!(read.to_string(), note);
}

/// The examples of C2SP tlog-witness: an offer with two signatures, and the answer of two witnesses.
#[test]
fn an_offer_and_its_answer() {
    let note = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    let offer = format!(
        "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
         5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n{note}"
    );
    let read: AddCheckpoint = offer.parse().unwrap();
    assert_eq!(
        (read.old, read.proof.len(), read.note.as_str()),
        (20_852_014, 4, note)
    );
    assert_eq!(read.to_string(), offer);
    assert_eq!(note.parse::<Note>().unwrap().to_string(), note);
    let answer = "\u{2014} witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n\
        \u{2014} witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+DlkL0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n\
        \u{2014} witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3HNJhm/kWl7oJlqU3rXXvpysAdyP3wQ==\n";
    let lines = signature_lines(answer).unwrap();
    let printed: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(printed, answer);
}
