//! The agent's life: load or adopt, apply the configuration, then watch until it is told to stop.
//!
//! Stopping leaves everything pinned. Nothing that runs here is needed for counting and caps.

mod auditing;
mod follow;
mod reload;
mod settings;
mod start;

use std::{
    future::{Future, pending},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use weir_config::{Config, PolicyError};
use weir_notices::answer::Answered;

use crate::{
    admin, doomed, gate,
    kernel::KernelError,
    marks::MarkCollision,
    notices::{self, post::PostError},
    operator::{self, Now, socket},
    reachout::{self, Wants},
    sights,
    state::{State, lock},
    zones::ZoneTableError,
};

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot listen on the admin address {address}")]
    Admin { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Zones(#[from] ZoneTableError),
    #[error(transparent)]
    Marks(#[from] MarkCollision),
    #[error("no user is called `{user}`: create it, or change {key}")]
    User { user: String, key: &'static str },
    #[error("the admin server ended")]
    Serve(#[source] io::Error),
    #[error("cannot listen on the agent's socket {path}")]
    Socket { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("cannot wait for the kernel's events")]
    Events(#[source] io::Error),
    #[error("cannot write to people as the configuration says")]
    Notices(#[from] PostError),
    #[error("cannot listen on the address of links, {address}")]
    Links { address: SocketAddr, source: io::Error },
}

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the life of an agent looks like from outside, for a service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The kernel counts by the configuration, and the agent answers.
    Serves,
    /// The loop that looks at the kernel every second has turned.
    Lives,
    /// It was told to stop, or cannot go on.
    Ends,
}

/// Runs until `shutdown`. Each message of `configurations` says that the configuration is to be read again; it comes ready-made, or
/// as the faults that it has. `told` hears of each [`Moment`]; it must not block.
pub async fn run(
    config: Config,
    mut configurations: mpsc::Receiver<Result<Config, String>>,
    shutdown: impl Future<Output = ()>,
    told: impl Fn(Moment),
) -> Result<(), AgentError> {
    raise_descriptor_limit();
    let address = config.agent.admin;
    let listener =
        TcpListener::bind(address).await.map_err(|source| AgentError::Admin { address, source })?;
    let state = Arc::new(start::start(&config)?);
    // Behind the instance's lock, so that no other agent of this instance has it.
    let socket = socket::bind(&config.agent.socket, &config.agent.operators)
        .map_err(|source| AgentError::Socket { path: config.agent.socket.clone(), source })?;
    let pages = admin::pages(Arc::clone(&state)).map_err(AgentError::Serve)?;
    let links = links(&config, &state).await?;
    let letters = tokio::spawn(deliver(Arc::clone(&state)));
    let server = tokio::spawn(admin::serve(listener, pages.clone()));
    let acts = tokio::spawn(socket::serve(socket, Arc::clone(&state), pages));
    tokio::pin!(server);
    let events = tokio::spawn(follow::events(Arc::clone(&state)));
    let drops = tokio::spawn(follow::drops(Arc::clone(&state)));
    let interfaces = tokio::spawn(follow::interfaces(Arc::clone(&state)));
    let sights = tokio::spawn(sights::follow(Arc::clone(&state)));
    let auditor = tokio::spawn(auditing::forever(Arc::clone(&state), config.agent.audit_interval));
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut current = config;
    let mut reloading = true;
    tracing::info!(admin = %address, zones = current.zones.len(), "weir agent serves");
    told(Moment::Serves);

    tokio::pin!(shutdown);
    let result = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            ended = &mut server => break match ended {
                Ok(Err(error)) => Err(AgentError::Serve(error)),
                Ok(Ok(())) => Err(AgentError::Serve(io::Error::other("without a reason"))),
                Err(error) => Err(AgentError::Serve(io::Error::other(error))),
            },
            message = configurations.recv(), if reloading => match message {
                Some(Ok(config)) => {
                    let wants = Wants::new(&config);
                    let version = config.clone();
                    current = reload::take_over(&state, current, config);
                    if let (Ok(wants), true) = (wants, current == version) {
                        state.reach.lock().await.want(wants);
                    }
                }
                Some(Err(faults)) => reload::refuse(&state, &faults),
                None => reloading = false,
            },
            // It may wait for an RCU grace period.
            _ = look.tick() => {
                tokio::task::block_in_place(|| every_second(&state));
                read_ledger(&state).await;
                reachout::second(&state).await;
                told(Moment::Lives);
            }
        }
    };
    told(Moment::Ends);
    reachout::end(&state).await;
    // With it goes the socket's file.
    acts.abort();
    let _ = acts.await;
    auditor.abort();
    sights.abort();
    letters.abort();
    links.abort();
    events.abort();
    drops.abort();
    interfaces.abort();
    tracing::info!("weir agent ends; counting and caps go on in the kernel");
    result
}

/// Sends what is due, until it is dropped.
async fn deliver(state: Arc<State>) {
    let (ledger, tally) = (state.ledger.clone(), Arc::clone(&state.deliveries));
    let clock = Arc::clone(&state);
    notices::serve(ledger, tally, move || Arc::clone(&lock(&state.post)), move || clock.now()).await;
}

/// Serves the pages of links, if there are to be any.
async fn links(config: &Config, state: &Arc<State>) -> Result<JoinHandle<()>, AgentError> {
    let Some(links) = &config.notices.links else { return Ok(tokio::spawn(pending())) };
    let address = links.address;
    let listener =
        TcpListener::bind(address).await.map_err(|source| AgentError::Links { address, source })?;
    let (posts, clock) = (Arc::clone(state), Arc::clone(state));
    let links = notices::Links {
        ledger: state.ledger.clone(),
        post: Box::new(move || Arc::clone(&lock(&posts.post))),
        now: Box::new(move || clock.now()),
        desk: Box::new(Desk(Arc::clone(state))),
    };
    tracing::info!(%address, "the pages of links are served");
    Ok(tokio::spawn(async move {
        if let Err(error) = weir_admin::serve(listener, notices::pages(Arc::new(links))).await {
            tracing::error!(%error, "the pages of links are served no more");
        }
    }))
}

/// Clients of the admin address must not cost the audit its descriptors.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// Tried again until it succeeds: until then it is not known what is in force.
async fn read_ledger(state: &State) {
    let readable = state.ledger.health().up.load(Relaxed);
    if readable && !lock(&state.hand).is_known() && operator::load(state).await.is_ok() {
        tracing::info!("the ledger is read: what is in force by it is known");
    }
}

fn every_second(state: &State) {
    operator::enforce(state, Now::read());
    state.look();
    // Events come once a second and zone; this ends the others, and those that an earlier agent left.
    if state.host.doomed() > 0 {
        doomed::end(state);
    }
    let mut zones = lock(&state.zones);
    let mut kernel = lock(&state.kernel);
    let freed = zones.reap(&state.memory, &kernel.tables);
    state.forget_peaks(&freed);
    drop(zones);
    kernel.flush_log();
    gate::sweep(&mut kernel.gate);
}

/// Puts answers into their cases.
struct Desk(Arc<State>);

impl notices::AnswerDesk for Desk {
    fn take<'a>(
        &'a self,
        case: &'a str,
        answered: &'a Answered,
    ) -> notices::Pending<'a, Result<bool, String>> {
        Box::pin(async move {
            reachout::answered(&self.0, case, answered).await.map_err(|error| error.to_string())
        })
    }
}
