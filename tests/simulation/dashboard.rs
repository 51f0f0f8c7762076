//! The real dashboard, with its real threads, answering one request at a time.
//!
//! Who asks waits for the answer without letting virtual time pass, so that the dashboard's own threads cannot
//! bring any other order into a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use cms_dashboard::key::Mode;
use cms_dashboard::{Clock, admin};
use cms_telemetry_agent::transport::Answer;
use jiff::Timestamp;
use tower::ServiceExt as _;

/// The name that agents sign for.
pub(crate) const AUTHORITY: &str = "dashboard.example.org";

/// The company of every run.
pub(crate) const COMPANY: &str = "acme-corp";

/// Longest answer that is read; the dashboard's are far below.
const ANSWER_BYTES_MAX: usize = 1 << 20;

type Asked = (Request<Body>, SyncSender<Answer>);

/// A dashboard that runs.
#[derive(Debug)]
pub(crate) struct Dashboard {
    asks: Option<SyncSender<Asked>>,
    now_ms: Arc<AtomicI64>,
    thread: Option<JoinHandle<()>>,
}

/// Makes a store with one company, and answers the API key.
pub(crate) fn found(dir: &Path, now: Timestamp) -> String {
    let company = COMPANY.parse().unwrap();
    admin::add_company(dir, &company, "Acme", now).unwrap();
    let made = admin::create_key(dir, &company, "simulation", Mode::Live, now).unwrap();
    made.key.reveal().to_owned()
}

impl Dashboard {
    /// Starts on a store that [`found`] has made.
    pub(crate) fn start(dir: &Path) -> Self {
        let (asks, queue) = sync_channel::<Asked>(1);
        let now_ms = Arc::new(AtomicI64::new(0));
        let (dir, clock) = (dir.to_owned(), Arc::clone(&now_ms));
        let thread = thread::spawn(move || serve(dir, &clock, &queue));
        Self {
            asks: Some(asks),
            now_ms,
            thread: Some(thread),
        }
    }

    /// Answers a request; on this dashboard's clock it is `now`.
    pub(crate) fn answer(&self, request: Request<Body>, now: Timestamp) -> Answer {
        self.now_ms.store(now.as_millisecond(), Ordering::SeqCst);
        let (answer, answered) = sync_channel(1);
        let asks = self.asks.as_ref().unwrap();
        asks.send((request, answer)).unwrap();
        answered.recv().unwrap()
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        drop(self.asks.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(dir: PathBuf, now_ms: &Arc<AtomicI64>, queue: &Receiver<Asked>) {
    let now_ms = Arc::clone(now_ms);
    let clock: Clock =
        Arc::new(move || Timestamp::from_millisecond(now_ms.load(Ordering::SeqCst)).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let app = cms_dashboard::open(&dir, clock, AUTHORITY.to_owned()).unwrap();
    let router = cms_dashboard::router(app);
    while let Ok((request, asker)) = queue.recv() {
        let answer = runtime.block_on(async {
            let response = router.clone().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            Answer {
                status: parts.status,
                headers: parts.headers,
                body: to_bytes(body, ANSWER_BYTES_MAX).await.unwrap().to_vec(),
            }
        });
        asker.send(answer).unwrap();
    }
}
