//! The way between agent and dashboard, as bad as the plan says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use cms_attest::add_checkpoint::AddCheckpoint;
use cms_telemetry_agent::limits::{ATTEMPT_TIMEOUT, CONNECT_TIMEOUT};
use cms_telemetry_agent::transport::{Answer, Exchange, NoAnswer, Post, Wire};
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::dashboard::Dashboard;
use super::plan::Weather;
use super::random::Random;
use super::sky::Sky;
use super::trace::Trace;

/// A submission by epoch and index.
pub(crate) type Place = (u64, u64);

/// The network of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sky: Sky,
    trace: Trace,
    state: Mutex<State>,
    /// Told when the agent is to die at this very point.
    now_dies: Notify,
}

#[derive(Debug)]
struct State {
    random: Random,
    weather: Vec<Weather>,
    dashboard: Option<Dashboard>,
    earlier: Option<Answer>,
    dies: Option<(bool, u32)>,
    seen: Seen,
}

/// What went over the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Exchanges that were begun.
    pub(crate) exchanges: u64,
    /// Those that brought the answer of success.
    pub(crate) successes: u64,
    /// Every signed head that was shown to the dashboard.
    pub(crate) heads: Vec<String>,
    /// When the agent was first told that a submission is accepted, in true time.
    pub(crate) accepted: BTreeMap<Place, Timestamp>,
}

/// What becomes of one exchange.
#[derive(Debug, Default)]
struct Fate {
    refused: bool,
    silent: bool,
    request_lost: bool,
    reply_lost: bool,
    there: Duration,
    back: Duration,
    again_after: Option<Duration>,
    instead: Option<Answer>,
    mixed: bool,
}

impl Network {
    pub(crate) fn new(sky: Sky, trace: Trace, random: Random) -> Self {
        Self(Arc::new(Shared {
            sky,
            trace,
            state: Mutex::new(State {
                random,
                weather: Vec::new(),
                dashboard: None,
                earlier: None,
                dies: None,
                seen: Seen::default(),
            }),
            now_dies: Notify::new(),
        }))
    }

    pub(crate) fn begin(&self, weather: Weather) {
        self.0.state.lock().unwrap().weather.push(weather);
    }

    pub(crate) fn end(&self, weather: Weather) {
        let mut state = self.0.state.lock().unwrap();
        if let Some(at) = state.weather.iter().position(|one| *one == weather) {
            state.weather.remove(at);
        }
    }

    /// All is well from now on.
    pub(crate) fn heal(&self) {
        let mut state = self.0.state.lock().unwrap();
        state.weather.clear();
        state.dies = None;
    }

    pub(crate) fn set_dashboard(&self, dashboard: Option<Dashboard>) {
        let old = std::mem::replace(&mut self.0.state.lock().unwrap().dashboard, dashboard);
        drop(old);
    }

    pub(crate) fn has_dashboard(&self) -> bool {
        self.0.state.lock().unwrap().dashboard.is_some()
    }

    /// Tells [`Network::now_dies`] so many exchanges from now.
    pub(crate) fn arm(&self, asked: bool, exchanges: u32) {
        self.0.state.lock().unwrap().dies = Some((asked, exchanges));
    }

    pub(crate) async fn now_dies(&self) {
        self.0.now_dies.notified().await;
    }

    pub(crate) fn seen(&self) -> Seen {
        self.0.state.lock().unwrap().seen.clone()
    }

    /// Counts of exchanges and of successes.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.0.state.lock().unwrap();
        (state.seen.exchanges, state.seen.successes)
    }

    /// Asks the dashboard without any network between, if it runs.
    pub(crate) fn ask(&self, path: &str) -> Option<Answer> {
        let state = self.0.state.lock().unwrap();
        let request = Request::get(path).body(Body::empty()).unwrap();
        let dashboard = state.dashboard.as_ref()?;
        Some(dashboard.answer(request, self.0.sky.dashboard_now()))
    }

    async fn exchange(&self, post: Post) -> Result<Answer, NoAnswer> {
        let path = path(&post.url).to_owned();
        let place = place(&post.headers);
        let said = match place {
            Some((_, index)) => format!("{path} #{index}"),
            None => path.clone(),
        };
        let (number, fate) = self.begin_exchange(&post);
        self.say(&format!("-> {number} {said}"));
        self.point(true);
        let answer = timeout(ATTEMPT_TIMEOUT, self.carry(&post, fate)).await;
        let answer = answer.unwrap_or_else(|_| lost("no answer in time"));
        match &answer {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                let word = text.split("\"message\"").next().unwrap_or_default();
                let shown: String = match answer.status.as_u16() {
                    200 => String::new(),
                    _ => word.chars().take(60).collect(),
                };
                self.say(&format!("<- {number} {} {shown}", answer.status.as_u16()));
                self.note(place, answer);
            }
            Err(error) => self.say(&format!("<- {number} {error}")),
        }
        answer
    }

    async fn carry(&self, post: &Post, fate: Fate) -> Result<Answer, NoAnswer> {
        if fate.refused {
            sleep(Duration::from_millis(1)).await;
            return lost("cannot connect: connection refused");
        }
        if fate.silent {
            sleep(CONNECT_TIMEOUT).await;
            return lost("cannot connect: it takes too long");
        }
        sleep(fate.there).await;
        if fate.request_lost {
            std::future::pending::<()>().await;
        }
        let mut answer = match fate.instead {
            Some(answer) => answer,
            None => self.deliver(post)?,
        };
        if let Some(after) = fate.again_after {
            let (network, post) = (self.clone(), post.clone());
            tokio::spawn(async move {
                sleep(after).await;
                network.say(&format!("   again: {}", path(&post.url)));
                drop(network.deliver(&post));
            });
        }
        self.point(false);
        if fate.reply_lost {
            sleep(fate.back).await;
            return lost("the exchange failed: connection reset");
        }
        if fate.mixed {
            let mut state = self.0.state.lock().unwrap();
            if let Some(earlier) = state.earlier.replace(answer.clone()) {
                answer = earlier;
            }
        }
        sleep(fate.back).await;
        Ok(answer)
    }

    fn deliver(&self, post: &Post) -> Result<Answer, NoAnswer> {
        let mut request = Request::post(path(&post.url));
        for (name, value) in &post.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(post.body.clone())).unwrap();
        let state = self.0.state.lock().unwrap();
        match &state.dashboard {
            Some(dashboard) => Ok(dashboard.answer(request, self.0.sky.dashboard_now())),
            None => lost("cannot connect: connection refused"),
        }
    }

    fn begin_exchange(&self, post: &Post) -> (u64, Fate) {
        let mut state = self.0.state.lock().unwrap();
        state.seen.exchanges += 1;
        if post.url.ends_with("/checkpoint") {
            let offer: AddCheckpoint = String::from_utf8_lossy(&post.body).parse().unwrap();
            state.seen.heads.push(offer.note);
        }
        let weather = state.weather.clone();
        let random = &mut state.random;
        let mut fate = Fate {
            there: Duration::from_millis(random.between(1, 20)),
            back: Duration::from_millis(random.between(1, 20)),
            ..Fate::default()
        };
        for one in weather {
            match one {
                Weather::Refused => fate.refused = true,
                Weather::Silent => fate.silent = true,
                Weather::Slow(ms) => {
                    fate.there += Duration::from_millis(random.between(0, ms));
                    fate.back += Duration::from_millis(random.between(0, ms));
                }
                Weather::LosesRequests(percent) => fate.request_lost |= random.percent(percent),
                Weather::LosesReplies(percent) => fate.reply_lost |= random.percent(percent),
                Weather::Duplicates(percent) => {
                    if random.percent(percent) {
                        let after =
                            random.span(Duration::from_millis(1), Duration::from_secs(7_200));
                        fate.again_after = Some(after);
                    }
                }
                Weather::Storm(status, retry_after, percent) => {
                    if random.percent(percent) {
                        fate.instead = Some(of_proxy(status, retry_after));
                    }
                }
                Weather::Odd(percent) => {
                    if random.percent(percent) {
                        fate.instead = Some(odd(random));
                    }
                }
                Weather::Mixed(percent) => fate.mixed |= random.percent(percent),
            }
        }
        (state.seen.exchanges, fate)
    }

    /// Notes what the agent is told.
    fn note(&self, place: Option<Place>, answer: &Answer) {
        let mut state = self.0.state.lock().unwrap();
        if !answer.status.is_success() {
            return;
        }
        state.seen.successes += 1;
        let accepted: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        let index = accepted.and_then(|answer| answer.get("index")?.as_u64());
        if let Some(place) = place.filter(|(_, own)| Some(*own) == index) {
            let now = self.0.sky.true_now();
            state.seen.accepted.entry(place).or_insert(now);
        }
    }

    /// Here the agent may have to die.
    fn point(&self, asked: bool) {
        let mut state = self.0.state.lock().unwrap();
        match &mut state.dies {
            Some((when, 0)) if *when == asked => {
                state.dies = None;
                self.0.now_dies.notify_one();
            }
            Some((when, exchanges)) if *when == asked => *exchanges -= 1,
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        self.0.trace.say(self.0.sky.true_now(), text);
    }
}

impl Wire for Network {
    fn post(&self, post: Post) -> Exchange<'_> {
        Box::pin(self.exchange(post))
    }
}

/// The path of an address at the dashboard.
fn path(url: &str) -> &str {
    let (_, rest) = url.split_once("//").unwrap();
    &rest[rest.find('/').unwrap()..]
}

/// The submission that a request carries.
fn place(headers: &HeaderMap) -> Option<Place> {
    let key = headers.get("idempotency-key")?.to_str().unwrap();
    let mut parts = key.trim_matches('"').rsplit(':');
    let index = parts.next().unwrap().parse().unwrap();
    Some((parts.next().unwrap().parse().unwrap(), index))
}

fn lost<T>(reason: &str) -> Result<T, NoAnswer> {
    Err(NoAnswer {
        reason: reason.to_owned(),
    })
}

fn of_proxy(status: u16, retry_after: Option<u64>) -> Answer {
    let mut headers = HeaderMap::new();
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: b"<html>busy</html>".to_vec(),
    }
}

/// What proxies, portals and half-configured servers say.
fn odd(random: &mut Random) -> Answer {
    let (status, media, body) = random.one_of(&[
        (200, "text/html", "<html>log in to the network</html>"),
        (200, "application/json", "{}"),
        (200, "application/json", "{\"status\":\"accepted\"}"),
        (204, "text/plain", ""),
        (302, "text/html", ""),
        (400, "text/html", "bad request"),
        (401, "text/html", "who are you"),
        (403, "text/html", "blocked by policy"),
        (404, "text/html", "not here"),
        (405, "text/html", "not so"),
        (413, "text/html", "too large"),
        (418, "application/json", "[1,2"),
        (502, "application/json", "{\"error\":1}"),
    ]);
    let mut answer = of_proxy(status, None);
    let media = HeaderValue::from_static(media);
    answer.headers.insert(CONTENT_TYPE, media);
    answer.body = body.as_bytes().to_vec();
    answer
}
