//! Every connection and tunnel that is alive, so that a drain can wait for them and end what is left.
//!
//! An entry costs two short locks of one of [`SHARDS`] tables at its begin and one at its end, and nothing in between.

use std::{
    array,
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{sync::Notify, task::AbortHandle};

use crate::tunnel::farewell::Leave;

const SHARDS: usize = 16;

type Shard = HashMap<u64, Place>;

/// What is known of a task.
#[derive(Default)]
struct Place {
    /// Not known for the instant in which it is spawned.
    abort: Option<AbortHandle>,
    /// How a tunnel is asked to end.
    leave: Option<Arc<Leave>>,
}

pub(crate) struct Roster {
    shards: [Mutex<Shard>; SHARDS],
    next: AtomicU64,
    live: AtomicUsize,
    emptied: Notify,
}

/// A task's place in the roster; the task leaves it by dropping the entry.
pub(crate) struct Entry {
    roster: Arc<Roster>,
    id: u64,
}

impl Roster {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: array::from_fn(|_| Mutex::default()),
            next: AtomicU64::new(0),
            live: AtomicUsize::new(0),
            emptied: Notify::new(),
        })
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, Shard> {
        self.shards[(id % SHARDS as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spawns the task that `make` builds around its entry.
    pub fn spawn<F>(self: &Arc<Self>, make: impl FnOnce(Entry) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.live.fetch_add(1, Ordering::AcqRel);
        // The place is there before the task, which may end before its handle is known here.
        self.shard(id).insert(id, Place::default());
        let handle = tokio::spawn(make(Entry { roster: self.clone(), id })).abort_handle();
        if let Some(place) = self.shard(id).get_mut(&id) {
            place.abort = Some(handle);
        }
    }

    pub fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// Waits until nobody is left.
    pub async fn emptied(&self) {
        loop {
            let mut emptied = pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.live() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// How those can be asked to end that can be asked.
    pub fn tunnels(&self) -> Vec<Arc<Leave>> {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        shards
            .flat_map(|shard| shard.values().filter_map(|place| place.leave.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// Ends every task where it stands; its sockets are closed.
    pub fn abort_all(&self) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().filter_map(|place| place.abort.as_ref()).for_each(AbortHandle::abort);
        }
    }
}

impl Entry {
    /// Lets the task be asked to end.
    pub fn leave(&self) -> Arc<Leave> {
        let leave = Arc::<Leave>::default();
        if let Some(place) = self.roster.shard(self.id).get_mut(&self.id) {
            place.leave = Some(leave.clone());
        }
        leave
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.roster.shard(self.id).remove(&self.id);
        if self.roster.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.roster.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn waits_for_all_and_ends_what_is_left() {
        let roster = Roster::new();
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        roster.spawn(|entry| async move {
            let _entry = entry;
            let _ = receiver.await;
        });
        roster.spawn(|entry| async move {
            let _entry = entry;
            pending::<()>().await;
        });
        assert_eq!(roster.live(), 2);
        sender.send(()).expect("received");
        assert!(timeout(Duration::from_millis(50), roster.emptied()).await.is_err());
        assert_eq!(roster.live(), 1);
        roster.abort_all();
        timeout(Duration::from_secs(5), roster.emptied()).await.expect("emptied");
    }

    #[tokio::test]
    async fn an_empty_roster_does_not_wait() {
        timeout(Duration::from_secs(5), Roster::new().emptied()).await.expect("empty");
    }
}
