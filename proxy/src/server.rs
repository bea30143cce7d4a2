//! The proxy as a whole: bound, then running, then drained.
//!
//! [`bind`] does what may need privileges (ports, key files) and nothing else; after [`drop_privileges`](crate::drop_privileges)
//! [`Bound::start`] serves on the current tokio runtime. [`Running::reload`] swaps the routes whole or not at all and leaves
//! connections and tunnels alone. [`Running::drain`] is the way out.

mod drain;
pub(crate) mod privileges;
pub(crate) mod roster;
pub(crate) mod routes;
pub(crate) mod takeover;

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
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
        access::{AccessLog, AccessLogError, Opened},
        admin::{self, AdminError, AdminSocket},
        counters::Counters,
        request_id::RequestIds,
    },
    request::{forwarded::Scheme, limit, via::Via},
    server::{
        privileges::raise_descriptor_limit,
        roster::Roster,
        routes::{RoutesError, Snapshot},
        takeover::{Labelled, Takeover, TakeoverError},
    },
    upstream::Pool,
};

/// The configuration cannot be served on this host.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Routes(#[from] RoutesError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
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
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
}

/// A configuration that is not taken over; the one before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Routes(#[from] RoutesError),
    #[error("WebSockets cannot be counted on this host, and `accounting` would be \"required\": {0}")]
    Accounting(#[source] Unavailable),
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    #[error("the routes could not be built: {0}")]
    Build(#[from] tokio::task::JoinError),
}

/// What every connection shares.
pub(crate) struct Shared {
    pub routes: Arc<ArcSwap<Snapshot>>,
    pub accounts: Arc<dyn Accounts>,
    pub counters: Arc<Counters>,
    pub access_log: Arc<AccessLog>,
    pub ids: RequestIds,
    pub roster: Arc<Roster>,
    pub pool: Pool,
    pub tls: ServerConfigs,
    pub http1: http1::Builder,
    pub http2: h2::server::Builder,
    pub via: Via,
    pub draining: watch::Sender<bool>,
    /// Another process accepts from our listening sockets by now.
    pub handed_over: AtomicBool,
}

/// Listening sockets and routes, not served yet.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<Listener>,
    admin: AdminSocket,
    access_log: Opened,
    takeover: Option<Takeover>,
    snapshot: Snapshot,
}

/// Binds every listener of the configuration and reads every certificate. Raises the limit of open files to the hard one.
///
/// # Errors
/// The address or the file that cannot be used, and what to do.
pub fn bind(config: &Config) -> Result<Bound, BindError> {
    limit::named_in(config.agent.socket.with_file_name("limits.json"));
    raise_descriptor_limit();
    let snapshot = Snapshot::build(config, None)?;
    let http = config.proxy.http.iter().map(|address| (*address, Scheme::Http));
    let https = config.proxy.https.iter().map(|address| (*address, Scheme::Https));
    let access_log = Opened::open(&config.proxy)?;
    let path = config.proxy.takeover.as_deref();
    let mut takeover = path.map(|path| Takeover::begin(path, &config.proxy.user)).transpose()?;
    let mut taken = |kind, address| takeover.as_mut()?.take(kind, address);
    let listener = |(address, scheme): (SocketAddr, Scheme)| match taken(scheme.as_str(), address) {
        Some(socket) => Ok(Listener { socket, scheme, address }),
        None => Listener::bind(address, scheme),
    };
    let listeners = http.chain(https).map(listener).collect::<Result<Vec<_>, _>>()?;
    let admin = match taken(takeover::ADMIN, config.proxy.admin) {
        Some(socket) => AdminSocket::of(config.proxy.admin, socket),
        None => AdminSocket::bind(config.proxy.admin)?,
    };
    if let Some(takeover) = &mut takeover {
        takeover.release_rest();
    }
    Ok(Bound { listeners, admin, access_log, takeover, snapshot })
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
        let Self { listeners, admin, access_log: opened, takeover, snapshot } = self;
        match (kernel::probe(&*accounts), snapshot.settings.accounting) {
            (Ok(()), _) => {}
            (Err(why), Accounting::Required) => return Err(StartError::Accounting(why)),
            (Err(why), Accounting::Optional) => warn!(%why, "WebSockets are not counted on this host"),
        }
        let zones = snapshot.zones();
        let routes = Arc::new(ArcSwap::from_pointee(snapshot));
        let counters = Arc::<Counters>::default();
        let access_log = AccessLog::new(counters.clone());
        access_log.switch_to(opened)?;
        let shared = Arc::new(Shared {
            accounts,
            counters,
            access_log,
            ids: RequestIds::new(),
            roster: Roster::new(),
            pool: Pool::new(),
            tls: ServerConfigs::new(routes.clone())?,
            http1: connection::http1::builder(),
            http2: connection::http2::builder(),
            via: Via::new(),
            draining: watch::Sender::new(false),
            handed_over: AtomicBool::new(false),
            routes,
        });
        // Only if there may be a next one: a socket that anybody holds still gets connections.
        let copies = takeover.is_some().then(|| copies(&listeners, &admin)).transpose()?;
        let mut accepting = JoinSet::new();
        for Listener { socket, scheme, address } in listeners {
            let listener = TcpListener::from_std(socket)?;
            info!(%address, scheme = scheme.as_str(), "listening");
            accepting.spawn(listener::run(listener, scheme, shared.clone(), shared.draining.subscribe()));
        }
        let mut telling = JoinSet::new();
        telling.spawn(admin::run(admin, shared.clone()));
        telling.spawn(beat());
        shared.counters.reloaded();
        info!(zones, "serving");
        let replaced = watch::Sender::new(false);
        let mut offering = JoinSet::new();
        let mut takeover_path = None;
        if let Some(takeover) = takeover {
            let offer = takeover.serve(copies.unwrap_or_default())?;
            takeover_path = Some(offer.path().to_owned());
            offering.spawn(offer.run(replaced.clone()));
        }
        Ok(Running { shared, accepting, telling, offering, replaced, takeover_path })
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
                () = running.replaced() => return Ok(running.drain().await),
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

/// Keeps a timer that is always nearer than any limit of a connection.
///
/// tokio wakes its driver for a timer that is due before all others: without this one, the connect timeout of each upgrade costs a write
/// to an eventfd, its event, and a turn of the loop. One wake-up a second is less, from the first upgrade a second on.
async fn beat() {
    const BEAT: Duration = Duration::from_secs(1);
    loop {
        sleep(BEAT).await;
    }
}

/// A proxy that serves.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    accepting: JoinSet<()>,
    /// The admin address, answered until this is dropped.
    telling: JoinSet<()>,
    /// The listening sockets, for the next proxy.
    offering: JoinSet<()>,
    replaced: watch::Sender<bool>,
    takeover_path: Option<PathBuf>,
}

/// Every socket that listens, once more.
fn copies(listeners: &[Listener], admin: &AdminSocket) -> io::Result<Vec<Labelled>> {
    let mut copies = Vec::new();
    for Listener { socket, scheme, address } in listeners {
        copies.push((takeover::label(scheme.as_str(), *address), socket.try_clone()?.into()));
    }
    if let Some((address, socket)) = admin.held() {
        copies.push((takeover::label(takeover::ADMIN, address), socket.try_clone()?.into()));
    }
    Ok(copies)
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections and tunnels that were still open after `drain_timeout`, and were closed.
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

    /// How often each managed rule matched, over all zones; what has no number, or not one that can be told, is `other`.
    pub fn managed_matches(&self) -> Vec<(String, u64)> {
        self.shared.routes.load().firewall.managed_counts().0
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
        let built = tokio::task::spawn_blocking(move || {
            let snapshot = Snapshot::build(&config, Some(&previous))?;
            Ok::<_, ReloadError>((snapshot, Opened::open(&config.proxy)?))
        });
        let (snapshot, access_log) = built.await??;
        self.shared.access_log.switch_to(access_log)?;
        info!(zones = snapshot.zones(), "routes reloaded");
        self.shared.routes.store(Arc::new(snapshot));
        Ok(())
    }

    /// Waits until another proxy serves from our listening sockets: it is time to [`drain`](Self::drain).
    pub async fn replaced(&self) {
        // Fails only without a sender, which we are.
        let _ = self.replaced.subscribe().wait_for(|replaced| *replaced).await;
    }

    /// Stops accepting, waits for connections and tunnels to end until `drain_timeout`, and closes what is left over
    /// `close_spread`.
    pub async fn drain(mut self) -> Drained {
        let plan = {
            let settings = &self.shared.routes.load().settings;
            drain::Plan {
                timeout: settings.drain_timeout,
                spread: settings.close_spread,
                code: settings.close_code.to_number(),
            }
        };
        // Lets go of the copies: what nobody accepts from must not get connections.
        self.offering.shutdown().await;
        if *self.replaced.borrow() {
            info!("another proxy has taken over");
            self.shared.handed_over.store(true, Relaxed);
            self.telling.shutdown().await;
        } else if let Some(path) = &self.takeover_path {
            // In a folder of root's it stays, and the next proxy finds that nobody answers.
            let _ = fs::remove_file(path);
        }
        self.shared.draining.send_replace(true);
        while self.accepting.join_next().await.is_some() {}
        let closed = drain::run(&self.shared.roster, plan).await;
        info!(closed, counters = %self.shared.counters, "stopped");
        let log = self.shared.access_log.clone();
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
        Drained { closed }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("routes", &self.routes.load()).finish_non_exhaustive()
    }
}
