//! The ledger: everything that people and the policy did, in one SQLite file, chained by hashes (`weir_reachout::ledger`).
//!
//! One thread does all of it, and is the only writer: nobody else waits for a disk. A ledger that cannot be opened, read or
//! written is an alarm (`weir_ledger_up` 0, the log, `GET /api/acts`), and what cannot be recorded is not done; counting, caps and leases
//! that the kernel has go on. A ledger that could not be opened is tried again with each request and every [`RETRY`]; that an
//! event could be written is proved every [`HEARTBEAT`].

mod batch;
mod error;
mod offline;
mod open_cases;
mod outbox;
#[cfg(test)]
mod outbox_tests;
mod packing;
mod row;
mod schema;
mod slots;
mod store;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use time::OffsetDateTime;
use tokio::sync::oneshot;
use weir_reachout::{
    hand::InForce,
    ledger::{Draft, Entry},
};

pub use batch::{Batch, CaseRow, DetectorRow, GuidelineRow, Returned, SignsRow};
pub use error::LedgerError;
pub use offline::Reader;
pub use open_cases::OpenCase;
pub use outbox::{Tally, Unheard};
#[cfg(test)]
pub use packing::pack_day;
pub use packing::{Packed, pack_row, unvarint, varint};
pub use slots::{CHUNK, Memory, day_of};
pub use store::Store;

use crate::state::lock;

/// Between two writes that prove that one can be written.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// The same while it cannot.
const RETRY: Duration = Duration::from_secs(5);
/// Requests that wait; further ones are refused.
const WAITING: usize = 64;

/// The ledger's thread, as others see it.
#[derive(Clone)]
pub struct Ledger {
    requests: SyncSender<Request>,
    health: Arc<Health>,
}

/// How the ledger is; for metrics.
#[derive(Default)]
pub struct Health {
    /// The last thing that was asked of it succeeded.
    pub up: AtomicBool,
    pub errors_total: AtomicU64,
    pub events: AtomicU64,
    pub size_bytes: AtomicU64,
    /// Seconds since 1970 of the last write that reached the disk.
    pub last_write: AtomicU64,
    fault: Mutex<Option<String>>,
}

/// What is done on the ledger's thread.
type Work = Box<dyn FnOnce(&mut Clerk) + Send>;

enum Request {
    Work(Work),
    Load(oneshot::Sender<Result<InForce, LedgerError>>),
    Record(Box<(Draft, String)>, oneshot::Sender<Result<Entry, LedgerError>>),
    Newest(u64, oneshot::Sender<Result<Vec<Entry>, LedgerError>>),
}

impl Ledger {
    /// Starts the thread, and waits for what is in force by the ledger. A ledger that cannot be opened is told and tried again.
    pub fn start(path: PathBuf) -> (Self, Result<InForce, LedgerError>) {
        let (requests, waiting) = sync_channel(WAITING);
        let health = Arc::new(Health::default());
        let mut clerk = Clerk { path: path.clone(), store: None, health: Arc::clone(&health) };
        let loaded = clerk.load();
        let spawned = thread::Builder::new().name("ledger".to_owned()).spawn(move || clerk.serve(&waiting));
        let loaded = match spawned {
            Ok(_) => loaded,
            Err(source) => {
                Err(LedgerError::File { action: "start the thread of", path: path.clone(), source })
            }
        };
        (Self { requests, health }, loaded)
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Everything that people's acts have put in force and that is not over, by all of the ledger.
    pub async fn load(&self) -> Result<InForce, LedgerError> {
        self.ask(Request::Load).await
    }

    /// Records what is about to be done. It is on the disk when this returns; if it does not succeed it must not be done.
    /// `params`: those of the policy that it was done under, as JSON.
    pub async fn record(&self, draft: Draft, params: String) -> Result<Entry, LedgerError> {
        self.ask(|reply| Request::Record(Box::new((draft, params)), reply)).await
    }

    /// The newest entries, newest first.
    pub async fn newest(&self, count: u64) -> Result<Vec<Entry>, LedgerError> {
        self.ask(|reply| Request::Newest(count, reply)).await
    }

    /// Has the ledger's thread do this; what it writes is on the disk when it returns.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.ask(|reply: oneshot::Sender<Result<T, LedgerError>>| {
            Request::Work(Box::new(move |clerk: &mut Clerk| {
                let before = clerk.writes();
                let done = clerk.open(|_| Ok(())).and_then(work);
                // That something could be read does not say that anything can be written.
                if done.is_err() || clerk.writes() != before {
                    clerk.health.note(&done);
                    clerk.wrote(&done);
                }
                drop(reply.send(done));
            }))
        })
        .await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Request,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(request(reply)).map_err(|error| match error {
            TrySendError::Full(_) => LedgerError::Busy,
            TrySendError::Disconnected(_) => LedgerError::Gone,
        })?;
        answer.await.map_err(|_| LedgerError::Gone)?
    }
}

impl Health {
    /// What is wrong, if something is.
    pub fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    fn note<T>(&self, result: &Result<T, LedgerError>) {
        let fault = result.as_ref().err().map(describe);
        if let Some(fault) = &fault {
            self.errors_total.fetch_add(1, Relaxed);
            if self.fault().as_ref() != Some(fault) {
                tracing::error!("the ledger fails, so nothing that has to be recorded is done: {fault}");
            }
        } else if !self.up.load(Relaxed) {
            tracing::info!("the ledger can be written");
        }
        self.up.store(fault.is_none(), Relaxed);
        *lock(&self.fault) = fault;
    }
}

/// The error with its causes.
fn describe(error: &LedgerError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// Who does the work.
struct Clerk {
    path: PathBuf,
    store: Option<Store>,
    health: Arc<Health>,
}

impl Clerk {
    fn serve(mut self, waiting: &Receiver<Request>) {
        let mut beaten = Instant::now();
        loop {
            let patience = if self.health.up.load(Relaxed) { HEARTBEAT } else { RETRY };
            // Who asked and went away gets no answer; what was recorded stays recorded.
            match waiting.recv_timeout(patience.saturating_sub(beaten.elapsed())) {
                Ok(Request::Work(work)) => work(&mut self),
                Ok(Request::Load(reply)) => drop(reply.send(self.load())),
                Ok(Request::Record(asked, reply)) => {
                    let (draft, params) = *asked;
                    let recorded = self.with(|store| store.append(draft, &params));
                    self.wrote(&recorded);
                    drop(reply.send(recorded));
                }
                Ok(Request::Newest(count, reply)) => {
                    let newest = self.open(|_| Ok(())).and_then(|store| store.newest(count));
                    drop(reply.send(newest));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if beaten.elapsed() >= patience {
                self.beat();
                beaten = Instant::now();
            }
        }
    }

    /// Reads the whole ledger anew.
    fn load(&mut self) -> Result<InForce, LedgerError> {
        // The lock is given back before it is taken again.
        self.store = None;
        let mut in_force = InForce::default();
        let loaded = self
            .open(|entry| in_force.follow(&entry).map(drop).map_err(LedgerError::from))
            .and_then(|store| store.beat(OffsetDateTime::now_utc()));
        self.health.note(&loaded);
        self.wrote(&loaded);
        in_force.expire(OffsetDateTime::now_utc());
        loaded.map(|()| in_force)
    }

    fn writes(&self) -> u64 {
        self.store.as_ref().map_or(0, Store::writes)
    }

    fn beat(&mut self) {
        let beaten = self.with(|store| store.beat(OffsetDateTime::now_utc()));
        self.wrote(&beaten);
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Store) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let result = self.open(|_| Ok(())).and_then(work);
        self.health.note(&result);
        result
    }

    fn open(
        &mut self,
        each: impl FnMut(Entry) -> Result<(), LedgerError>,
    ) -> Result<&mut Store, LedgerError> {
        match &mut self.store {
            Some(store) => Ok(store),
            empty => Ok(empty.insert(Store::open(&self.path, each)?)),
        }
    }

    fn wrote<T>(&self, result: &Result<T, LedgerError>) {
        let (Ok(_), Some(store)) = (result, &self.store) else { return };
        let now = OffsetDateTime::now_utc().unix_timestamp();
        self.health.last_write.store(u64::try_from(now).unwrap_or(0), Relaxed);
        self.health.events.store(store.head().seq, Relaxed);
        self.health.size_bytes.store(store.size(), Relaxed);
    }
}
