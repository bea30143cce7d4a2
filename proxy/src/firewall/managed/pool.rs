//! Who inspects: so many requests at a time, on threads that serve nobody meanwhile.
//!
//! A permit is taken before a thread is, and kept by the thread: a client that leaves while its request is inspected frees
//! nothing early, so that the bound holds for the work and not for those who wait for it. Who waits longer than `max_wait` is
//! not inspected.

use std::{
    num::NonZero,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use weir_config::ManagedPool;

use super::{Findings, Head, sets::RuleSet};
use crate::observe::timing::Timing;

/// Why nobody knows what the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInspected {
    /// No thread was free in time.
    Busy,
    /// The library failed.
    Failed,
}

pub(crate) struct Pool {
    config: ManagedPool,
    permits: Arc<Semaphore>,
    /// What inspecting took, without the waiting.
    pub time: Arc<Timing>,
}

impl Pool {
    /// The same threads as before, if there are to be as many.
    pub fn build(config: ManagedPool, before: Option<&Self>) -> Self {
        let time = before.map(|before| before.time.clone()).unwrap_or_default();
        let permits = before.filter(|before| before.config.threads == config.threads);
        let permits = permits.map_or_else(
            || Arc::new(Semaphore::new(threads(config.threads))),
            |before| before.permits.clone(),
        );
        Self { config, permits, time }
    }

    pub async fn inspect(&self, set: &Arc<RuleSet>, head: Head) -> Result<Findings, NotInspected> {
        self.run(self.config.max_wait, {
            let set = set.clone();
            move || set.inspect(&head)
        })
        .await
    }

    async fn run(
        &self,
        max_wait: Duration,
        work: impl FnOnce() -> Option<Findings> + Send + 'static,
    ) -> Result<Findings, NotInspected> {
        let permit = timeout(max_wait, self.permits.clone().acquire_owned()).await;
        // It is never closed.
        let permit = permit.map_err(|_| NotInspected::Busy)?.map_err(|_| NotInspected::Failed)?;
        let time = self.time.clone();
        let inspected = spawn_blocking(move || {
            let _permit = permit;
            let begun = Instant::now();
            let findings = work();
            time.add(begun.elapsed());
            findings
        });
        inspected.await.ok().flatten().ok_or(NotInspected::Failed)
    }
}

/// Half of the CPUs: the other half goes on with everybody else.
fn threads(configured: Option<NonZero<u32>>) -> usize {
    let half = || thread::available_parallelism().map_or(1, |cpus| cpus.get().div_ceil(2));
    configured.map_or_else(half, |threads| threads.get() as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn pool(threads: u32) -> Pool {
        Pool::build(ManagedPool { threads: NonZero::new(threads), ..ManagedPool::default() }, None)
    }

    #[tokio::test]
    async fn who_finds_no_thread_in_time_is_not_inspected() {
        let pool = Arc::new(pool(1));
        let ((begun, has_begun), (finish, finished)) = (channel(), channel::<()>());
        let first = tokio::spawn({
            let pool = pool.clone();
            async move {
                let work = move || {
                    begun.send(()).ok();
                    finished.recv().ok();
                    Some(Findings::default())
                };
                pool.run(Duration::from_secs(60), work).await
            }
        });
        spawn_blocking(move || has_begun.recv()).await.expect("joined").expect("begun");
        let second = pool.run(Duration::from_millis(1), || Some(Findings::default())).await;
        assert_eq!(second, Err(NotInspected::Busy));
        // The client leaves, and the thread is as busy as before.
        first.abort();
        let third = pool.run(Duration::from_millis(1), || Some(Findings::default())).await;
        assert_eq!(third, Err(NotInspected::Busy));
        finish.send(()).expect("awaited");
        let last = pool.run(Duration::from_secs(60), || Some(Findings::default())).await;
        assert_eq!(last, Ok(Findings::default()));
        assert_eq!(pool.time.count(), 2, "only what was inspected took time");
    }

    #[tokio::test]
    async fn work_that_fails_gives_its_thread_back() {
        let pool = pool(1);
        let wait = Duration::from_secs(60);
        assert_eq!(pool.run(wait, || None).await, Err(NotInspected::Failed));
        assert_eq!(pool.run(wait, || panic!("of the test")).await, Err(NotInspected::Failed));
        assert_eq!(pool.run(wait, || Some(Findings::default())).await, Ok(Findings::default()));
    }

    #[test]
    fn a_reload_keeps_the_threads_unless_their_number_changes() {
        let first = pool(2);
        let longer = ManagedPool { max_wait: Duration::from_secs(1), ..first.config };
        let second = Pool::build(longer, Some(&first));
        assert!(Arc::ptr_eq(&first.permits, &second.permits));
        assert_eq!(second.config.max_wait, Duration::from_secs(1));
        let third = Pool::build(ManagedPool { threads: NonZero::new(3), ..longer }, Some(&second));
        assert_eq!(third.permits.available_permits(), 3);
        assert!(Arc::ptr_eq(&first.time, &third.time));
    }
}
