//! Rotations of a whole agent against a dashboard whose every answer is written here, in a time that stands still.

use std::sync::{Arc, Mutex};

use cms_attest::enrol::{ChallengeAnswer, EnrolAnswer, EnrolRequest};
use cms_attest::keys::KeyId;
use cms_attest::rotate::{RotateAnswer, RotateRequest};
use cms_attest::{Problem, Succession};
use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::*;
use crate::chance::Chance;
use crate::clock::Time;
use crate::identity::{HeldKey, KeyState, Purpose};
use crate::transport::{Answer, Exchange, NoAnswer, Post, Transport, Wire};

const SPRING: Timestamp = Timestamp::constant(1_772_000_000, 0);

/// What the dashboard does when it is asked to rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Takes the keys, and its answer is lost.
    LosesTheAnswer,
    /// Knows no such path.
    OffersNone,
    /// Says no, with this word.
    Refuses(&'static str),
    /// Takes the keys.
    Takes,
}

#[derive(Debug)]
struct Dashboard {
    mood: Mutex<Mood>,
    keys: Mutex<Option<(KeyId, KeyId)>>,
    enrols: bool,
    asked: Mutex<Vec<RotateRequest>>,
}

struct Standing(Mutex<Timestamp>);

impl Time for Standing {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn boottime_ms(&self) -> u64 {
        1
    }

    fn boot_id(&self) -> String {
        "b".to_owned()
    }
}

impl Wire for Dashboard {
    fn post(&self, post: Post) -> Exchange<'_> {
        let answer = self.answer(&post);
        Box::pin(async move { answer })
    }
}

impl Dashboard {
    fn answer(&self, post: &Post) -> Result<Answer, NoAnswer> {
        if post.url.ends_with("/challenge") && self.enrols {
            return Ok(json(&ChallengeAnswer {
                challenge: "Zm9vYmFyZm9vYmFyZm9vYmFyZm9v".parse().unwrap(),
                expires_at: SPRING,
            }));
        }
        if post.url.ends_with("/enroll") && self.enrols {
            let asked: EnrolRequest = serde_json::from_slice(&post.body).unwrap();
            let ids = [asked.request_key, asked.log_key].map(|key| key.key().key_id());
            let [request, log] = ids;
            *self.keys.lock().unwrap() = Some((request, log));
            return Ok(json(&EnrolAnswer {
                agent_id: asked.agent_id,
                api_key_id: "key_0".parse().unwrap(),
                cosigner: None,
                successions: Vec::new(),
                server_time: SPRING,
            }));
        }
        if post.url.ends_with("/rotate") && self.enrols {
            return self.rotate(post);
        }
        Ok(problem(StatusCode::NOT_FOUND, "not_found"))
    }

    fn rotate(&self, post: &Post) -> Result<Answer, NoAnswer> {
        let asked: RotateRequest = serde_json::from_slice(&post.body).unwrap();
        self.asked.lock().unwrap().push(asked.clone());
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::OffersNone => return Ok(problem(StatusCode::NOT_FOUND, "not_found")),
            Mood::Refuses(word) => return Ok(problem(StatusCode::CONFLICT, word)),
            Mood::LosesTheAnswer | Mood::Takes => {}
        }
        let mut keys = self.keys.lock().unwrap();
        let (request, log) = keys.as_mut().unwrap();
        if let Some(new) = asked.request_key {
            *request = new.key().key_id();
        }
        if let Some(note) = asked.log_key {
            *log = note.parse::<Succession>().unwrap().to().key().key_id();
        }
        if mood == Mood::LosesTheAnswer {
            return Err(NoAnswer {
                reason: "the answer is lost".to_owned(),
            });
        }
        Ok(json(&RotateAnswer {
            request_key: request.clone(),
            previous_until: None,
            log_key: log.clone(),
            server_time: SPRING,
        }))
    }
}

fn json(answer: &impl serde::Serialize) -> Answer {
    with(StatusCode::OK, serde_json::to_vec(answer).unwrap())
}

fn problem(status: StatusCode, word: &str) -> Answer {
    let problem = Problem {
        error: word.to_owned(),
        message: "no".to_owned(),
        next_step: "ask".to_owned(),
        details: Vec::new(),
        server_time: SPRING,
    };
    with(status, serde_json::to_vec(&problem).unwrap())
}

fn with(status: StatusCode, body: Vec<u8>) -> Answer {
    let json = HeaderValue::from_static("application/json");
    Answer {
        status,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
        body,
    }
}

/// An agent and what it meets.
struct Bench {
    directory: tempfile::TempDir,
    dashboard: Arc<Dashboard>,
    time: Arc<Standing>,
}

impl Bench {
    fn new(enrols: bool) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("api.key");
        std::fs::write(&key, "cms_test_key").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "company_id = \"acme-corp\"\n[dashboard]\nendpoint = \"https://dash.example/api/v1\"\n\
             api_key = {{ file = \"{}\" }}\n[store]\npath = \"{}\"\n",
            key.display(),
            directory.path().join("store").display()
        );
        std::fs::write(directory.path().join("agent.toml"), text).unwrap();
        Self {
            directory,
            dashboard: Arc::new(Dashboard {
                mood: Mutex::new(Mood::Takes),
                keys: Mutex::new(None),
                enrols,
                asked: Mutex::default(),
            }),
            time: Arc::new(Standing(Mutex::new(SPRING))),
        }
    }

    /// The agent of this store. A store belongs to one at a time.
    async fn agent(&self) -> Agent {
        let path = self.directory.path().join("agent.toml");
        let dashboard = Arc::clone(&self.dashboard);
        let time = Arc::clone(&self.time);
        let world = World {
            clock: Clock::of(time),
            chance: Chance::of(Arc::new(|| 0)),
            connect: Arc::new(move |endpoint, _| {
                Ok(Transport::over(
                    Arc::clone(&dashboard) as Arc<dyn Wire>,
                    endpoint,
                ))
            }),
            ..World::real()
        };
        loop {
            let config = Config::load(&path, "host").unwrap();
            match Agent::open(&path, config, world.clone(), None).await {
                // The store's thread of the one before lets go when it ends.
                Err(AgentError::Store(StoreError::InUse { .. })) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    }

    fn mood(&self, mood: Mood) {
        *self.dashboard.mood.lock().unwrap() = mood;
    }

    fn pass(&self, span: SignedDuration) {
        *self.time.0.lock().unwrap() += span;
    }

    fn asked(&self) -> usize {
        self.dashboard.asked.lock().unwrap().len()
    }

    fn known(&self) -> (KeyId, KeyId) {
        self.dashboard.keys.lock().unwrap().clone().unwrap()
    }
}

/// What the submit loop does when it is woken.
async fn go_round(agent: &Agent) {
    agent.submitting().unwrap().drain().await;
}

fn in_state(agent: &Agent, state: impl Fn(&HeldKey) -> bool) -> Vec<(Purpose, KeyId)> {
    let keys = agent.identity.keys().into_iter().filter(state);
    keys.map(|key| (key.purpose, key.id)).collect()
}

fn current(agent: &Agent) -> Vec<(Purpose, KeyId)> {
    in_state(agent, |key| key.state == KeyState::Current)
}

fn waiting(agent: &Agent) -> Vec<(Purpose, KeyId)> {
    in_state(agent, |key| key.state == KeyState::Next)
}

fn beside(agent: &Agent) -> usize {
    in_state(agent, |key| matches!(key.state, KeyState::Previous(_))).len()
}

fn part(agent: &Agent) -> (PartState, String) {
    let parts = agent.status.parts().into_iter();
    let part = parts.into_iter().find(|part| part.name == "keys").unwrap();
    let said = match part.state {
        PartState::Ok => part.detail,
        _ => part.last_error,
    };
    (part.state, said.unwrap_or_default())
}

async fn announced(agent: &Agent) -> u64 {
    agent.store.ledger_size(&agent.origin).await.unwrap()
}

#[tokio::test]
async fn what_the_dashboard_takes_is_in_use_and_the_old_key_goes_after_a_day() {
    let bench = Bench::new(true);
    let agent = bench.agent().await;
    go_round(&agent).await;
    let before = current(&agent);
    agent.identity.prepare(&Purpose::ALL, SPRING).await.unwrap();
    let next = waiting(&agent);
    go_round(&agent).await;
    assert_eq!(current(&agent), next);
    assert_eq!(bench.known(), (next[0].1.clone(), next[1].1.clone()));
    assert_eq!(announced(&agent).await, 2, "one leaf for each key");
    // Without receipts the ledger has nothing to hand over; the request key signs beside.
    assert_eq!((beside(&agent), part(&agent).0), (1, PartState::Ok));
    go_round(&agent).await;
    assert_eq!(bench.asked(), 1);
    bench.pass(SignedDuration::from_hours(25));
    go_round(&agent).await;
    assert_eq!((beside(&agent), bench.asked()), (0, 2));
    let repeated = bench.dashboard.asked.lock().unwrap().pop().unwrap();
    assert_eq!(repeated.request_key.unwrap().key().key_id(), next[0].1);
    assert!(repeated.log_key.is_none());
    assert_ne!(current(&agent), before);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_after_a_start() {
    let bench = Bench::new(true);
    let agent = bench.agent().await;
    bench.mood(Mood::LosesTheAnswer);
    go_round(&agent).await;
    let before = current(&agent);
    agent.identity.prepare(&Purpose::ALL, SPRING).await.unwrap();
    let next = waiting(&agent);
    go_round(&agent).await;
    assert_eq!((current(&agent), waiting(&agent)), (before, next.clone()));
    assert_eq!(part(&agent).0, PartState::Degraded);
    drop(agent);
    // Whatever is said later, the dashboard may have the keys: they are not given up.
    for mood in [Mood::Refuses("cloned_identity"), Mood::OffersNone] {
        bench.mood(mood);
        let agent = bench.agent().await;
        go_round(&agent).await;
        assert_eq!(waiting(&agent), next, "{mood:?}");
        drop(agent);
    }
    bench.mood(Mood::Takes);
    let agent = bench.agent().await;
    go_round(&agent).await;
    assert_eq!(current(&agent), next);
}

#[tokio::test]
async fn what_is_refused_at_once_is_given_up_and_told() {
    let bench = Bench::new(true);
    let agent = bench.agent().await;
    go_round(&agent).await;
    let before = current(&agent);
    for (mood, state, words) in [
        (Mood::OffersNone, PartState::Ok, "offers no rotation"),
        (
            Mood::Refuses("other_log_key"),
            PartState::Failed,
            "not rotated",
        ),
    ] {
        bench.mood(mood);
        agent.identity.prepare(&Purpose::ALL, SPRING).await.unwrap();
        go_round(&agent).await;
        assert_eq!((current(&agent), waiting(&agent)), (before.clone(), vec![]));
        let (shown, said) = part(&agent);
        assert_eq!(shown, state, "{mood:?}");
        assert!(said.contains(words), "{said}");
        assert_eq!(announced(&agent).await, 0);
    }
}

#[tokio::test]
async fn where_nobody_knows_the_keys_nobody_is_asked() {
    let bench = Bench::new(false);
    let agent = bench.agent().await;
    agent.identity.prepare(&Purpose::ALL, SPRING).await.unwrap();
    let next = waiting(&agent);
    go_round(&agent).await;
    assert_eq!(current(&agent), next);
    assert_eq!((bench.asked(), announced(&agent).await), (0, 2));
}
