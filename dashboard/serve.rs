//! The running dashboard: binds the listener, serves until told to stop, and looks after the store meanwhile.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;

use crate::app::{App, chain};
use crate::clock::Clock;
use crate::config::Config;
use crate::connections::{Bounded, CONNECTIONS_MAX};
use crate::cosigner::{self, CosignerError, Cosigners};
use crate::evaluate;
use crate::router::router;
use crate::store::{Store, StoreError, name_cosigners, open_plain};
use crate::tls::{TlsError, server_config};

/// A TLS handshake is four messages; whoever needs longer is not an agent.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// The head of a request is below 2 KiB.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Headers of a request: ours have a dozen, browsers and proxies add some.
const HEADERS_MAX: usize = 64;
/// Bytes of all headers over HTTP/2.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Requests at once on one HTTP/2 connection; an agent has five categories.
const STREAMS_MAX: u32 = 16;
/// How long requests may still take after the call to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Between two passes of retention; nothing is kept an hour too long that matters.
const RETENTION_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often to look whether the UTC day has changed.
const DAY_EVERY: Duration = Duration::from_secs(60);
/// Pause after an evaluation that failed, so that a broken store is not asked in a loop.
const EVALUATION_PAUSE: Duration = Duration::from_secs(5);

/// A dashboard that listens but does not answer yet.
#[derive(Debug)]
pub struct Server {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
    tls: RustlsConfig,
}

impl Server {
    /// Reads certificate and key, opens the store, and binds the address. All that can be wrong is said here.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn bind(config: &Config, clock: Clock) -> Result<Self, ServeError> {
        let client_ca = config.client_ca_file.as_deref();
        let tls = server_config(&config.tls_cert_file, &config.tls_key_file, client_ca)?;
        let failed = |source| ServeError::Listen {
            listen: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let authority = match config.authority.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", address.port()),
            None => config.authority.clone(),
        };
        Ok(Self {
            app: open(&config.store, clock, authority)?,
            listener,
            address,
            tls: RustlsConfig::from_config(tls),
        })
    }

    /// The bound address, with the real port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The name that agents must sign for.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.app.authority()
    }

    /// Serves until `shutdown` is done, then lets running requests end. What was accepted is on the disk.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let handle = Handle::new();
        let mut server =
            axum_server::from_tcp(self.listener).map_err(|source| ServeError::Listen {
                listen: self.address,
                source,
            })?;
        let http = server.http_builder();
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .max_headers(HEADERS_MAX);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX);
        let acceptor = RustlsAcceptor::new(self.tls)
            .handshake_timeout(HANDSHAKE_MAX)
            .acceptor(Bounded::new(CONNECTIONS_MAX));
        let service = router(self.app.clone()).into_make_service();
        let serving = server
            .acceptor(acceptor)
            .handle(handle.clone())
            .serve(service);
        let stopping = async {
            shutdown.await;
            handle.graceful_shutdown(Some(GRACE));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = serving => result.map_err(|source| ServeError::Listen {
                listen: self.address,
                source,
            }),
            () = stopping => Ok(()),
            () = keep_evaluated(&self.app) => Ok(()),
            () = keep_days(&self.app) => Ok(()),
            () = keep_retained(&self.app) => Ok(()),
        }
    }
}

/// Opens the dashboard that lives in a store directory, known to agents as `authority`. It does not listen:
/// [`router`] answers requests that come another way.
///
/// # Errors
/// When the store or the key for receipts cannot be used.
pub fn open(store: &Path, clock: Clock, authority: String) -> Result<App, ServeError> {
    // The store first: it makes the directory.
    let opened = Store::open(store)?;
    let first = cosigner::load(store, &authority)?;
    let db = open_plain(store)?;
    name_cosigners(&db, &authority, first.verifying(), clock())?;
    let cosigners = Cosigners::new(first, Some(store.to_owned()));
    Ok(App::with_cosigners(opened, clock, authority, cosigners))
}

/// Binds and serves in one step, for who needs no address before.
///
/// # Errors
/// When binding or serving fails.
pub async fn serve(
    config: &Config,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    Server::bind(config, clock)?.run(shutdown).await
}

/// Evaluates companies as their submissions arrive; many that arrive together cost one evaluation.
async fn keep_evaluated(app: &App) {
    if let Err(error) = evaluate::begin(app).await {
        tracing::error!(error = %chain(&error), "cannot look for what waits to be evaluated");
    }
    loop {
        app.something_arrived().await;
        if let Err(error) = evaluate::arrived(app).await {
            tracing::error!(error = %chain(&error), "cannot evaluate");
            tokio::time::sleep(EVALUATION_PAUSE).await;
        }
    }
}

/// Gives every company a line for every UTC day, also for a day on which nothing arrives.
async fn keep_days(app: &App) {
    loop {
        if let Err(error) = evaluate::day(app).await {
            tracing::error!(error = %chain(&error), "cannot evaluate the day");
        }
        tokio::time::sleep(DAY_EVERY).await;
    }
}

async fn keep_retained(app: &App) {
    loop {
        match app.store().retain(app.now()).await {
            Ok(dropped) => tracing::info!(
                bodies = dropped.bodies,
                submissions = dropped.submissions,
                days = dropped.days,
                nonces = dropped.nonces,
                challenges = dropped.challenges,
                "retention pass"
            ),
            Err(error) => tracing::error!(error = %chain(&error), "cannot drop old rows"),
        }
        tokio::time::sleep(RETENTION_EVERY).await;
    }
}

/// Why the dashboard does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no key for receipts.
    #[error("cannot sign receipts")]
    Cosigner(#[from] CosignerError),
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}; choose another `listen`")]
    Listen {
        /// Which.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// Certificate or key cannot be used.
    #[error("cannot offer TLS")]
    Tls(#[from] TlsError),
}
