//! A running `weir agent` and what it answers.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use weir_agent::{CasesReply, EventRecord, EventsReply, HostReply, SourcesReply, ZoneRecord, ZonesReply};

use crate::{
    ADMIN, Process, SOON, World, eventually, host,
    http::{self, Answer},
    metrics::Scrape,
};

/// `weir agent`, killed when this is dropped. What it pinned goes with the [`World`].
pub struct Agent {
    pub process: Process,
    /// Its configuration file.
    pub conf: PathBuf,
}

impl Agent {
    /// Starts it and waits until its first audit is over.
    pub(crate) fn start(world: &World, conf: &Path) -> Self {
        let args = ["agent", "--config", conf.to_str().expect("a path in UTF-8")];
        Self::ready(world.weir("agent", args), conf)
    }

    /// The same, and it dies at this point of its way (`agent/src/operator/fault.rs`), as `kill -9` does.
    pub(crate) fn start_to_die(world: &World, conf: &Path, point: &str) -> Self {
        Self::start_with(world, conf, &format!("WEIR_FAULT={point}"))
    }

    /// The same, with `NAME=VALUE` in its environment.
    pub(crate) fn start_with(world: &World, conf: &Path, variable: &str) -> Self {
        let (variable, weir) = (variable.to_owned(), host::weir());
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let args = [variable, text(&weir), "agent".to_owned(), "--config".to_owned(), text(conf)];
        let args = args.iter().map(String::as_str);
        Self::ready(Process::start(world.folder(), "agent", Path::new("/usr/bin/env"), args), conf)
    }

    fn ready(process: Process, conf: &Path) -> Self {
        let mut agent = Self { process, conf: conf.to_owned() };
        eventually("a ready agent", SOON, || {
            agent.process.assert_running();
            match http::get(ADMIN, "admin", "/readyz") {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        agent
    }

    /// `GET` of a page of the admin address.
    pub fn get(&self, path: &str) -> Answer {
        http::get(ADMIN, "admin", path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    fn json<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    pub fn zones(&self) -> ZonesReply {
        self.json("/api/zones")
    }

    pub fn zone(&self, name: &str) -> ZoneRecord {
        self.json(&format!("/api/zones/{name}"))
    }

    /// The board of the reach-out.
    pub fn cases(&self) -> CasesReply {
        self.json("/api/cases")
    }

    pub fn host(&self) -> HostReply {
        self.json("/api/host")
    }

    /// The busiest sources, of the host or (`&zone=...`) of a zone.
    pub fn sources(&self, of: &str) -> SourcesReply {
        self.json(&format!("/api/sources?top=100{of}"))
    }

    /// Waits until no source has live sockets.
    pub fn await_no_sources(&self) {
        eventually("an empty table of sources", SOON, || match self.sources("") {
            reply if reply.sources == 0 && self.scrape().value("weir_sources") == 0.0 => Ok(()),
            reply => Err(format!("{:?}", reply.top)),
        });
    }

    pub fn events(&self) -> Vec<EventRecord> {
        self.json::<EventsReply>("/api/events").events
    }

    /// Events of one kind.
    pub fn events_of(&self, kind: &str) -> Vec<EventRecord> {
        self.events().into_iter().filter(|event| event.kind == kind).collect()
    }

    /// `/metrics`, for the scraper that 127.0.0.1 is.
    pub fn scrape(&self) -> Scrape {
        Scrape::parse(&self.get("/metrics").text())
    }

    /// Live sockets and live WebSockets of a zone.
    pub fn live(&self, zone: &str) -> (u64, u64) {
        let zone = self.zone(zone);
        (zone.sockets, zone.websockets)
    }

    /// Waits until a zone has this many sockets and WebSockets.
    pub fn await_live(&self, zone: &str, sockets: u64, websockets: u64) {
        eventually(&format!("{sockets} sockets and {websockets} WebSockets of {zone}"), SOON, || match self
            .live(zone)
        {
            live if live == (sockets, websockets) => Ok(()),
            (sockets, websockets) => Err(format!("{sockets} sockets and {websockets} WebSockets")),
        });
    }

    /// All live sockets of our listeners, of zones or not attributed.
    pub fn sockets(&self) -> u64 {
        let reply = self.zones();
        // A count that went below zero must be seen as such, and not be an overflow here.
        reply.zones.iter().fold(reply.unattributed_sockets, |sum, zone| sum.saturating_add(zone.sockets))
    }

    /// Waits until no socket and no WebSocket is counted anywhere.
    pub fn await_empty(&self) {
        eventually("empty books", SOON, || {
            let reply = self.zones();
            let live: Vec<_> = reply
                .zones
                .iter()
                .filter(|zone| zone.sockets + zone.websockets > 0)
                .map(|zone| (&zone.zone, zone.sockets, zone.websockets))
                .collect();
            if live.is_empty() && reply.unattributed_sockets == 0 {
                Ok(())
            } else {
                Err(format!("unattributed {}, zones {live:?}", reply.unattributed_sockets))
            }
        });
    }

    /// Waits for an audit that began after this call, and returns what it found.
    pub fn await_audit(&self) -> HostReply {
        // The one that may be running now, and one more.
        let before = self.scrape().value("weir_audits_total");
        eventually("two more audits", SOON, || {
            let audits = self.scrape().value("weir_audits_total");
            if audits >= before + 2.0 { Ok(()) } else { Err(format!("{before}, then {audits}")) }
        });
        self.host()
    }

    /// # Panics
    /// If the agent ever saw a count that differed from the kernel's socket list.
    pub fn assert_never_drifted(&self) {
        let audit = self.await_audit().audit;
        let drifts = self.events_of("drift");
        assert!(drifts.is_empty(), "counts differed from the kernel's socket list: {drifts:?}");
        let scrape = self.scrape();
        assert_eq!(scrape.value("weir_audit_repairs_total"), 0.0, "repairs");
        assert_eq!(scrape.value("weir_accounting_drift_sockets"), 0.0, "drift");
        assert_eq!(scrape.value("weir_source_drift_sockets"), 0.0, "drift of sources");
        assert_eq!((audit.drift_sockets, audit.untracked_sockets), (0, 0), "drift and untracked sockets");
    }

    /// A scrape from another address of the loopback network: another scraper.
    pub fn scrape_from(&self, last_octet: u8) -> Scrape {
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last_octet));
        let answer = http::get_from(from, ADMIN, "admin", "/metrics");
        Scrape::parse(&answer.unwrap_or_else(|error| panic!("GET /metrics: {error}")).text())
    }
}
