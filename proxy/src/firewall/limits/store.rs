//! Where a limit keeps what it knows of each key: a bounded number of them, in sixteen tables with a lock each.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use governor::{
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

const SHARDS: usize = 16;

/// A key, hashed with a secret already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(pub u128);

/// Takes the key for its own hash.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

type Shard = HashMap<Key, Nanos, BuildHasherDefault<AsItIs>>;

/// Shared with whoever wants to know how full it is.
#[derive(Clone)]
pub(super) struct Store(Arc<Tables>);

struct Tables {
    shards: [Mutex<Shard>; SHARDS],
    /// Keys of one shard at most.
    most: usize,
    /// What all keys without room share.
    crowd: Mutex<Option<Nanos>>,
}

impl Store {
    pub fn new(max_keys: u32) -> Self {
        let most = (max_keys as usize).div_ceil(SHARDS);
        let shards = std::array::from_fn(|_| Mutex::default());
        Self(Arc::new(Tables { shards, most, crowd: Mutex::new(None) }))
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        lock(&self.0.shards[(key.0 >> 124) as usize % SHARDS])
    }

    /// Whether the key is known or could be.
    pub fn has_room(&self, key: Key) -> bool {
        let shard = self.shard(key);
        shard.len() < self.0.most || shard.contains_key(&key)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateStore for Store {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(*key);
        if let Some(known) = shard.get_mut(key) {
            let (result, next) = f(Some(*known))?;
            *known = next;
            return Ok(result);
        }
        if shard.len() < self.0.most {
            let (result, next) = f(None)?;
            shard.insert(*key, next);
            return Ok(result);
        }
        drop(shard);
        let mut crowd = lock(&self.0.crowd);
        let (result, next) = f(*crowd)?;
        *crowd = Some(next);
        Ok(result)
    }
}

impl ShrinkableKeyedStateStore<Key> for Store {
    fn retain_recent(&self, drop_below: Nanos) {
        for shard in &self.0.shards {
            lock(shard).retain(|_, known| *known > drop_below);
        }
    }

    fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
