//! Who has how many of the agent's socket's connections, by user.
//!
//! Everybody may connect where others than root are operators, so places are counted by user: a user who takes all that one may
//! have takes none of another's, and root has its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::state::lock;

/// Connections of some kind.
pub struct Places {
    most: usize,
    most_of_one: usize,
    held: Mutex<HashMap<u32, usize>>,
    given_back: Notify,
}

/// One of them, given back when it is dropped.
pub struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Places {
    pub fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, held: Mutex::default(), given_back: Notify::new() })
    }

    /// A place for this user, if there is one.
    pub fn take(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut held = lock(&self.held);
        let all: usize = held.values().sum();
        let own = held.get(&uid).copied().unwrap_or(0);
        if all >= self.most || own >= self.most_of_one {
            return None;
        }
        held.insert(uid, own + 1);
        Some(Place { places: Arc::clone(self), uid })
    }

    /// A place for this user, as soon as there is one.
    pub async fn wait(self: &Arc<Self>, uid: u32) -> Place {
        loop {
            // Before the look, so that no place that is given back after it is missed.
            let given_back = self.given_back.notified();
            if let Some(place) = self.take(uid) {
                return place;
            }
            given_back.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock(&self.places.held);
        match held.get_mut(&self.uid) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                held.remove(&self.uid);
            }
        }
        self.places.given_back.notify_waiters();
    }
}

/// A warning that a stranger can cause: told once an interval, with how many there were.
pub struct Seldom {
    interval: Duration,
    told: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    pub fn every(interval: Duration) -> Self {
        Self { interval, told: Mutex::new((None, 0)) }
    }

    /// How many there were since the last that was told, this one included, if it is time to tell it.
    pub fn count(&self, now: Instant) -> Option<u64> {
        let mut told = lock(&self.told);
        told.1 += 1;
        if told.0.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            return None;
        }
        told.0 = Some(now);
        Some(std::mem::take(&mut told.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_takes_no_place_of_another() {
        let places = Places::new(5, 2);
        let mine: Vec<_> = (0..9).filter_map(|_| places.take(1)).collect();
        assert_eq!(mine.len(), 2);
        let others: Vec<_> = (2..9).filter_map(|uid| places.take(uid)).collect();
        assert_eq!(others.len(), 3, "of all of them five");
        drop(mine);
        assert!(places.take(9).is_some());
        drop(others);
        assert!(lock(&places.held).is_empty());
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_is_given_back() {
        let places = Places::new(1, 1);
        let first = places.take(1).unwrap();
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.wait(2).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert_eq!(waiting.await.unwrap().uid, 2);
    }

    #[test]
    fn many_warnings_are_one_with_their_number() {
        let seldom = Seldom::every(Duration::from_secs(10));
        let start = Instant::now();
        assert_eq!(seldom.count(start), Some(1));
        assert_eq!((seldom.count(start), seldom.count(start + Duration::from_secs(9))), (None, None));
        assert_eq!(seldom.count(start + Duration::from_secs(10)), Some(3));
    }
}
