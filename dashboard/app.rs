//! What every request shares: store, clock, the dashboard's own name, and the bounds on work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use cms_attest::Cosigner;
use cms_spec::CompanyId;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};

use crate::clock::Clock;
use crate::cosigner::Cosigners;
use crate::rate::Buckets;
use crate::refused::Refused;
use crate::standing::Standing;
use crate::store::Store;

/// Bodies that are decompressed and examined at once: each may take 16 MiB and a processor.
const EXAMINATIONS_MAX: usize = 8;

/// Bodies that are read at once, of at most 4 MiB each: half a gigabyte at the very worst.
const BODIES_MAX: usize = 128;

/// Checkpoints that an agent may offer at once: a stop and a start, each with a size to learn first.
const CHECKPOINTS_BURST: i64 = 30;
/// Checkpoints a second after that; one in five minutes is what an agent needs.
const CHECKPOINTS_PER_SECOND: i64 = 1;

/// One running dashboard. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    authority: String,
    cosigners: Cosigners,
    checkpoint_buckets: Buckets,
    buckets: Buckets,
    bodies: Semaphore,
    examinations: Arc<Semaphore>,
    unevaluated: Mutex<BTreeSet<CompanyId>>,
    outdated: Mutex<BTreeSet<CompanyId>>,
    arrived: Notify,
    standings: tokio::sync::Mutex<BTreeMap<CompanyId, Arc<Standing>>>,
}

impl App {
    /// A dashboard over a store, known to agents as `authority`, whose receipts `cosigner` signs.
    #[must_use]
    pub fn new(store: Store, clock: Clock, authority: String, cosigner: Cosigner) -> Self {
        Self::with_cosigners(store, clock, authority, Cosigners::new(cosigner, None))
    }

    /// The same where the key for receipts may be rotated.
    pub(crate) fn with_cosigners(
        store: Store,
        clock: Clock,
        authority: String,
        cosigners: Cosigners,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            authority,
            cosigners,
            checkpoint_buckets: Buckets::new(CHECKPOINTS_BURST, CHECKPOINTS_PER_SECOND),
            buckets: Buckets::default(),
            bodies: Semaphore::new(BODIES_MAX),
            examinations: Arc::new(Semaphore::new(EXAMINATIONS_MAX)),
            unevaluated: Mutex::default(),
            outdated: Mutex::default(),
            arrived: Notify::new(),
            standings: tokio::sync::Mutex::default(),
        }))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0.clock)()
    }

    /// The name that agents sign, from the configuration.
    pub(crate) fn authority(&self) -> &str {
        &self.0.authority
    }

    pub(crate) fn buckets(&self) -> &Buckets {
        &self.0.buckets
    }

    /// What signs receipts.
    pub(crate) fn cosigners(&self) -> &Cosigners {
        &self.0.cosigners
    }

    /// The keys that sign receipts now, the one in use first.
    pub(crate) async fn signing(&self) -> Result<Vec<Arc<Cosigner>>, Refused> {
        Ok(self.0.cosigners.signing(self.store(), self.now()).await?)
    }

    /// How many checkpoints each agent may offer; apart from those of API keys, so that neither displaces the other.
    pub(crate) fn checkpoint_buckets(&self) -> &Buckets {
        &self.0.checkpoint_buckets
    }

    pub(crate) fn bodies(&self) -> &Semaphore {
        &self.0.bodies
    }

    pub(crate) fn examinations(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.examinations)
    }

    /// The computed standings. One lock for all, so that readers cannot make the server compute twice at once.
    pub(crate) fn standings(&self) -> &tokio::sync::Mutex<BTreeMap<CompanyId, Arc<Standing>>> {
        &self.0.standings
    }

    /// Remembers that something that counts has arrived. Bounded by the number of companies.
    pub(crate) fn counted(&self, company: CompanyId) {
        locked(&self.0.outdated).insert(company.clone());
        locked(&self.0.unevaluated).insert(company);
        self.0.arrived.notify_one();
    }

    /// Whether a computed standing has been overtaken; asking forgets it.
    pub(crate) fn take_outdated(&self, company: &CompanyId) -> bool {
        locked(&self.0.outdated).remove(company)
    }

    /// The companies to evaluate; they are forgotten here.
    pub(crate) fn take_unevaluated(&self) -> BTreeSet<CompanyId> {
        std::mem::take(&mut *locked(&self.0.unevaluated))
    }

    /// Puts companies back that could not be evaluated.
    pub(crate) fn keep_unevaluated(&self, companies: BTreeSet<CompanyId>) {
        locked(&self.0.unevaluated).extend(companies);
        self.0.arrived.notify_one();
    }

    /// Waits until there is something to evaluate.
    pub(crate) async fn something_arrived(&self) {
        self.0.arrived.notified().await;
    }

    /// Writes the answer, or the refusal in the one shape that errors have.
    pub(crate) fn answer(&self, result: Result<Response, Refused>) -> Response {
        let refused = match result {
            Ok(response) => return response,
            Err(refused) => refused,
        };
        if let Refused::Store(error) = &refused {
            tracing::error!(error = %chain(error), "the store failed a request");
        }
        if let Refused::Cosigner(error) = &refused {
            tracing::error!(error = %chain(error), "a receipt could not be signed");
        }
        let status =
            StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(refused.problem(self.now()))).into_response();
        let headers = response.headers_mut();
        if let Some(wait_s) = refused.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Refused::MethodNotAllowed(allowed) = refused {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("authority", &self.0.authority)
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error and what caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
