//! The proxy as a whole: bound, then running, then drained.
//!
//! [`bind`] does what may need privileges (ports, key files) and nothing else; after [`drop_privileges`](crate::drop_privileges)
//! [`Bound::start`] serves on the current tokio runtime. [`Running::reload`] swaps the routes whole or not at all and leaves
//! connections and tunnels alone. [`Running::drain`] is the way out.

pub(crate) mod privileges;
pub(crate) mod roster;
pub(crate) mod routes;

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{error, info, warn};
use weir_config::{Accounting, Config, Proxy};

use crate::{
    accounting::kernel::{self, Accounts, Kernel, Unavailable},
    downstream::{
        connection,
        listener::{self, ListenError, Listener},
        tls::ServerConfigs,
    },
    firewall::RuleCount,
    observe::{
        admin::{self, AdminError, AdminSocket},
        counters::Counters,
    },
    request::{forwarded::Scheme, via::Via},
    server::{
        privileges::raise_descriptor_limit,
        roster::Roster,
        routes::{RoutesError, Snapshot},
    },
    upstream::Pool,
};

/// How long aborted connections may take to be gone.
const ABORT_TIME: Duration = Duration::from_secs(5);

/// The configuration cannot be served on this host.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Routes(#[from] RoutesError),
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// Serving cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("WebSockets cannot be counted on this host, and `accounting` is \"required\": {0}")]
    Accounting(#[source] Unavailable),
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot serve a listening socket: {0}")]
    Listener(#[from] io::Error),
}

/// A configuration that is not taken over; the one before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Routes(#[from] RoutesError),
    #[error("WebSockets cannot be counted on this host, and `accounting` would be \"required\": {0}")]
    Accounting(#[source] Unavailable),
    #[error("the routes could not be built: {0}")]
    Build(#[from] tokio::task::JoinError),
}

/// What every connection shares.
pub(crate) struct Shared {
    pub routes: Arc<ArcSwap<Snapshot>>,
    pub accounts: Arc<dyn Accounts>,
    pub counters: Arc<Counters>,
    pub roster: Arc<Roster>,
    pub pool: Pool,
    pub tls: ServerConfigs,
    pub http1: http1::Builder,
    pub http2: h2::server::Builder,
    pub via: Via,
    pub draining: watch::Sender<bool>,
}

/// Listening sockets and routes, not served yet.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<Listener>,
    admin: AdminSocket,
    snapshot: Snapshot,
}

/// Binds every listener of the configuration and reads every certificate. Raises the limit of open files to the hard one.
///
/// # Errors
/// The address or the file that cannot be used, and what to do.
pub fn bind(config: &Config) -> Result<Bound, BindError> {
    raise_descriptor_limit();
    let snapshot = Snapshot::build(config, None)?;
    let http = config.proxy.http.iter().map(|address| (*address, Scheme::Http));
    let https = config.proxy.https.iter().map(|address| (*address, Scheme::Https));
    let listeners = http
        .chain(https)
        .map(|(address, scheme)| Listener::bind(address, scheme))
        .collect::<Result<Vec<_>, _>>()?;
    let admin = AdminSocket::bind(config.proxy.admin)?;
    Ok(Bound { listeners, admin, snapshot })
}

/// Does all that a [`reload`](Running::reload) or [`bind`] does to read a configuration (certificates, keys, origins), and has
/// no effect: a configuration that passes is one that the proxy can serve. Reads every file, so it may block for a while; what
/// only the proxy's own user may not read passes here if the caller may.
///
/// # Errors
/// The first zone that cannot be served, and why.
pub fn check(config: &Config) -> Result<(), RoutesError> {
    Snapshot::build(config, None).map(drop)
}

/// As [`check`], for a configuration that is to take over from `current`, which is served: certificates whose paths it has
/// as well need not be sound, as the proxy goes on with those that it has.
///
/// # Errors
/// As [`check`].
pub fn check_reload(config: &Config, current: &Config) -> Result<(), RoutesError> {
    let known: HashMap<_, _> = current.zones.iter().map(|zone| (&zone.name, &zone.tls)).collect();
    let mut changed = config.clone();
    for zone in changed.zones.iter_mut().filter(|zone| known.get(&zone.name) == Some(&&zone.tls)) {
        Arc::make_mut(zone).tls = None;
    }
    if config.proxy.default_tls == current.proxy.default_tls {
        changed.proxy.default_tls = None;
    }
    check(&changed)
}

impl Bound {
    /// Begins to serve. Needs a tokio runtime, and the user that the proxy is to be from now on.
    ///
    /// # Errors
    /// [`StartError::Accounting`] if accounting is required and not to be had.
    pub fn start(self) -> Result<Running, StartError> {
        self.start_with(Arc::new(Kernel))
    }

    pub(crate) fn start_with(self, accounts: Arc<dyn Accounts>) -> Result<Running, StartError> {
        let Self { listeners, admin, snapshot } = self;
        match (kernel::probe(&*accounts), snapshot.settings.accounting) {
            (Ok(()), _) => {}
            (Err(why), Accounting::Required) => return Err(StartError::Accounting(why)),
            (Err(why), Accounting::Optional) => warn!(%why, "WebSockets are not counted on this host"),
        }
        let zones = snapshot.zones();
        let routes = Arc::new(ArcSwap::from_pointee(snapshot));
        let shared = Arc::new(Shared {
            accounts,
            counters: Arc::default(),
            roster: Roster::new(),
            pool: Pool::new(),
            tls: ServerConfigs::new(routes.clone())?,
            http1: connection::http1::builder(),
            http2: connection::http2::builder(),
            via: Via::new(),
            draining: watch::Sender::new(false),
            routes,
        });
        let mut accepting = JoinSet::new();
        for Listener { socket, scheme, address } in listeners {
            let listener = TcpListener::from_std(socket)?;
            info!(%address, scheme = scheme.as_str(), "listening");
            accepting.spawn(listener::run(listener, scheme, shared.clone(), shared.draining.subscribe()));
        }
        let mut telling = JoinSet::new();
        telling.spawn(admin::run(admin, shared.clone()));
        shared.counters.reloaded();
        info!(zones, "serving");
        Ok(Running { shared, accepting, _telling: telling })
    }

    /// Serves until `shutdown` is done, takes over every configuration that comes from `reloads`, then drains.
    ///
    /// # Errors
    /// As [`Bound::start`]. A reload that fails is logged and changes nothing.
    pub async fn serve(
        self,
        mut reloads: mpsc::Receiver<Config>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Drained, StartError> {
        let running = self.start()?;
        let mut shutdown = std::pin::pin!(shutdown);
        let mut open = true;
        loop {
            tokio::select! {
                () = &mut shutdown => return Ok(running.drain().await),
                config = reloads.recv(), if open => match config {
                    Some(config) => if let Err(error) = running.reload(config).await {
                        error!(%error, "reload failed, nothing has changed");
                    },
                    None => open = false,
                },
            }
        }
    }
}

/// A proxy that serves.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    accepting: JoinSet<()>,
    /// The admin address, answered until this is dropped.
    _telling: JoinSet<()>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections and tunnels that were still open after `drain_timeout` and were closed.
    pub closed: usize,
}

impl Running {
    /// What the proxy has counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// What each rule of the firewall has done, in no order. A rule keeps its counts through reloads by its id.
    pub fn rule_counts(&self) -> Vec<RuleCount> {
        self.shared.routes.load().rule_counts()
    }

    /// Serves new requests by another configuration. Listeners and the user stay those of the start.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub async fn reload(&self, config: Config) -> Result<(), ReloadError> {
        let reloaded = self.take_over(config).await;
        match &reloaded {
            Ok(()) => self.shared.counters.reloaded(),
            Err(_) => self.reload_failed(),
        }
        reloaded
    }

    /// Counts a configuration that was so faulty that it could not even be offered.
    pub fn reload_failed(&self) {
        self.shared.counters.reloads_failed.add(1);
    }

    async fn take_over(&self, config: Config) -> Result<(), ReloadError> {
        let current = self.shared.routes.load_full();
        let was = &current.settings;
        if config.proxy.accounting == Accounting::Required && was.accounting == Accounting::Optional {
            kernel::probe(&*self.shared.accounts).map_err(ReloadError::Accounting)?;
        }
        let of_the_start =
            |proxy: &Proxy| (proxy.http.clone(), proxy.https.clone(), proxy.admin, proxy.user.clone());
        if of_the_start(was) != of_the_start(&config.proxy) {
            warn!("`http`, `https`, `admin` and `user` of [proxy] only change with a restart of the proxy");
        }
        let previous = current.clone();
        let built = tokio::task::spawn_blocking(move || Snapshot::build(&config, Some(&previous)));
        let snapshot = built.await??;
        info!(zones = snapshot.zones(), "routes reloaded");
        self.shared.routes.store(Arc::new(snapshot));
        Ok(())
    }

    /// Stops accepting, waits for connections and tunnels to end until `drain_timeout`, and closes what is left.
    pub async fn drain(mut self) -> Drained {
        let limit = self.shared.routes.load().settings.drain_timeout;
        self.shared.draining.send_replace(true);
        while self.accepting.join_next().await.is_some() {}
        let roster = &self.shared.roster;
        info!(live = roster.live(), timeout_seconds = limit.as_secs_f64(), "draining");
        let mut closed = 0;
        if timeout(limit, roster.emptied()).await.is_err() {
            closed = roster.live();
            roster.abort_all();
            // A task that was polled just then ends as soon as it returns.
            if timeout(ABORT_TIME, roster.emptied()).await.is_err() {
                warn!(live = roster.live(), "connections did not end when they were closed");
            }
        }
        info!(closed, counters = %self.shared.counters, "stopped");
        Drained { closed }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("routes", &self.routes.load()).finish_non_exhaustive()
    }
}
