//! The model: what is counted where, by the rules that the documentation gives, and by nothing else.
//!
//! A count is the number of sockets of which something holds. It is not kept: it is counted anew whenever it is asked for, so there
//! is nothing that could be subtracted twice.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

pub type Id = u64;

/// The source of a connection that this host has made itself: the other end of it.
const ELSEWHERE: &str = "127.0.0.1/32";

/// The caps of a zone's plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    pub websockets: u64,
    pub sockets: Option<u64>,
    pub of_source: Option<u64>,
}

/// What a socket is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Unconnected,
    Connected,
    Gone,
}

/// A socket that is counted.
#[derive(Clone, Debug)]
struct Socket {
    /// None: unattributed.
    zone: Option<String>,
    websocket: bool,
    source: Option<String>,
    /// It was the n-th of its source.
    ordinal: u64,
    doomed: bool,
}

/// All numbers that are not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub unattributed: u64,
    /// Sockets, and those of them that are WebSockets.
    pub zones: BTreeMap<String, (u64, u64)>,
    pub sources: BTreeMap<String, u64>,
}

#[derive(Default)]
pub struct Books {
    /// Those that the kernel can find.
    pub zones: BTreeMap<String, Caps>,
    /// The zone that has the dedicated listener.
    pub dedicated: Option<String>,
    sockets: BTreeMap<Id, Socket>,
    /// Those that were counted once.
    ended: BTreeSet<Id>,
}

impl Books {
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for socket in self.sockets.values() {
            match &socket.zone {
                None => counts.unattributed += 1,
                Some(zone) => {
                    let (sockets, websockets) = counts.zones.entry(zone.clone()).or_default();
                    *sockets += 1;
                    *websockets += u64::from(socket.websocket);
                }
            }
            if let Some(source) = &socket.source {
                *counts.sources.entry(source.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// A connection is established.
    pub fn born(&mut self, id: Id, source: &str, dedicated: bool) {
        let ordinal = self.counts().sources.get(source).copied().unwrap_or(0) + 1;
        let source = Some(source.to_owned());
        self.sockets.insert(id, Socket { zone: None, websocket: false, source, ordinal, doomed: false });
        if let (true, Some(zone)) = (dedicated, self.dedicated.clone()) {
            let joined = self.admit(id, &zone, Life::Connected).is_ok();
            self.sockets.entry(id).and_modify(|socket| socket.doomed = !joined);
        }
    }

    /// Everything ends.
    pub fn clear(&mut self) {
        self.ended.extend(std::mem::take(&mut self.sockets).into_keys());
    }

    pub fn ends(&mut self, id: Id) {
        self.ended.extend(self.sockets.remove(&id).map(|_| id));
    }

    /// Those that a cap refused where nobody could be told.
    pub fn doomed(&self) -> Vec<Id> {
        self.sockets.iter().filter(|(_, socket)| socket.doomed).map(|(id, _)| *id).collect()
    }

    pub fn is_counted(&self, id: Id) -> bool {
        self.sockets.contains_key(&id)
    }

    pub fn is_doomed(&self, id: Id) -> bool {
        self.sockets.get(&id).is_some_and(|socket| socket.doomed)
    }

    pub fn attribute(&mut self, id: Id, zone: &str, life: Life) -> Result<(), Errno> {
        let caps = *self.zones.get(zone).ok_or(Errno::ENOENT)?;
        if life != Life::Connected {
            return Err(Errno::ENOTCONN);
        }
        let mut socket = self.spoken_for(id, life);
        if socket.zone.as_deref() == Some(zone) {
            return Ok(());
        }
        if socket.websocket {
            return Err(Errno::EBUSY);
        }
        self.room(&socket, zone, caps)?;
        socket.zone = Some(zone.to_owned());
        self.join(id, socket);
        Ok(())
    }

    pub fn admit(&mut self, id: Id, zone: &str, life: Life) -> Result<(), Errno> {
        let caps = *self.zones.get(zone).ok_or(Errno::ENOENT)?;
        if life == Life::Gone {
            return Err(Errno::ENOTCONN);
        }
        let mut socket = self.spoken_for(id, life);
        let same = socket.zone.as_deref() == Some(zone);
        if socket.websocket {
            return Err(if same { Errno::EALREADY } else { Errno::EBUSY });
        }
        if !same && caps.of_source.is_some_and(|cap| socket.ordinal > cap) {
            return Err(Errno::ENOSPC);
        }
        if self.live(zone).1 >= caps.websockets {
            return Err(Errno::EDQUOT);
        }
        if !same {
            self.room(&socket, zone, caps)?;
        }
        (socket.zone, socket.websocket) = (Some(zone.to_owned()), true);
        self.join(id, socket);
        Ok(())
    }

    pub fn release(&mut self, id: Id, zone: &str, life: Life) -> Result<(), Errno> {
        let known = self.zones.contains_key(zone);
        let Some(socket) = self.sockets.get_mut(&id).filter(|_| life != Life::Gone) else {
            // Connected, and never counted: there is nothing to release.
            let never = life == Life::Connected && !self.ended.contains(&id);
            let nothing = if never || life == Life::Unconnected { Errno::EINVAL } else { Errno::ENOTCONN };
            return Err(if known { nothing } else { Errno::ENOENT });
        };
        match (socket.websocket, socket.zone.as_deref() == Some(zone)) {
            // Also when its zone has left the configuration.
            (true, true) => socket.websocket = false,
            _ if !known => return Err(Errno::ENOENT),
            (true, false) => return Err(Errno::EBUSY),
            (false, _) => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// A socket that nothing counts yet may be spoken for, too: one that we connect, or have connected.
    fn spoken_for(&self, id: Id, life: Life) -> Socket {
        let source = (life == Life::Connected).then(|| ELSEWHERE.to_owned());
        let new = Socket { zone: None, websocket: false, source, ordinal: 0, doomed: false };
        self.sockets.get(&id).cloned().unwrap_or(new)
    }

    fn join(&mut self, id: Id, mut socket: Socket) {
        if let (false, Some(source)) = (self.sockets.contains_key(&id), &socket.source) {
            socket.ordinal = self.counts().sources.get(source).copied().unwrap_or(0) + 1;
        }
        self.sockets.insert(id, socket);
    }

    fn live(&self, zone: &str) -> (u64, u64) {
        self.counts().zones.get(zone).copied().unwrap_or_default()
    }

    fn room(&self, socket: &Socket, zone: &str, caps: Caps) -> Result<(), Errno> {
        if caps.of_source.is_some_and(|cap| socket.ordinal > cap) {
            return Err(Errno::ENOSPC);
        }
        if caps.sockets.is_some_and(|cap| self.live(zone).0 >= cap) {
            return Err(Errno::EMFILE);
        }
        Ok(())
    }
}
