//! What to offer a customer whose case is open: the plan that fits, an exemption, or a word about their client first.
//!
//! The plan is the smallest with 1.25 times the 95th percentile of every resource within it; if there is none, it is for a
//! person to talk about. What is not known fits only a plan that does not bound it. Spikes alone, with a 95th percentile within the plan, are no reason to pay more: they get an
//! exemption for events. Where usage looks like a fault of the client, that is said first.

use crate::{decision::Rule, policy::Policy};
use serde::{Deserialize, Serialize};

/// The resources of a plan, or a zone's use of them: infinite is what a plan does not bound, and what is not known of a use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Concurrent WebSockets over the fleet.
    pub websockets: f64,
    /// Kernel socket memory in bytes.
    pub socket_memory_bytes: f64,
    /// Both ways.
    pub bytes_per_second: f64,
    pub upgrades_per_second: f64,
}

/// A plan as it is offered. A resource that it does not bound is infinite.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub name: String,
    pub holds: Resources,
}

/// Signs that the client, not its success, makes the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClientSigns {
    /// Upgrades in an hour over the mean of live WebSockets in it.
    pub upgrades_per_websocket_hour: f64,
    /// Share of the live sockets that never carried a byte.
    pub silent: f64,
}

/// A likely fault of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientFault {
    /// WebSockets are opened again and again: a client that reconnects without waiting.
    ReconnectStorm,
    /// Most WebSockets never say anything: a client that opens more than it uses.
    SilentSockets,
}

/// What to offer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "offer", content = "plan", rename_all = "snake_case")]
pub enum Offered {
    /// "It was an event": nothing to pay, nothing to do.
    Exemption,
    /// The plan that fits.
    Plan(String),
    /// The plan that the zone has.
    Stay,
    /// No plan fits: "talk to us".
    Talk,
}

/// In the order in which it is said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    pub first: Option<ClientFault>,
    pub offer: Offered,
}

/// More than one new WebSocket a minute for each that lives.
const STORM_PER_HOUR: f64 = 60.0;
const MOSTLY: f64 = 0.5;

/// `p95` of the window of 30 days; `current` is the zone's plan, which is among the `offers`.
pub fn recommend(
    policy: &Policy,
    rule: Rule,
    p95: &Resources,
    signs: &ClientSigns,
    current: &str,
    offers: &[Offer],
) -> Recommendation {
    let first = if signs.upgrades_per_websocket_hour > STORM_PER_HOUR {
        Some(ClientFault::ReconnectStorm)
    } else if signs.silent > MOSTLY {
        Some(ClientFault::SilentSockets)
    } else {
        None
    };
    // Nobody is asked to pay more for what is not known.
    let within = |offer: &Offer| p95.known().within(&offer.holds, 1.0);
    let has_room = offers.iter().find(|offer| offer.name == current).is_some_and(within);
    let offer =
        if rule == Rule::R1 && has_room { Offered::Exemption } else { fitting(policy, p95, current, offers) };
    Recommendation { first, offer }
}

fn fitting(policy: &Policy, p95: &Resources, current: &str, offers: &[Offer]) -> Offered {
    let headroom = policy.params().recommend.headroom;
    let fits = offers.iter().filter(|offer| p95.within(&offer.holds, headroom));
    match fits.min_by(|a, b| a.holds.websockets.total_cmp(&b.holds.websockets)) {
        Some(offer) if offer.name == current => Offered::Stay,
        Some(offer) => Offered::Plan(offer.name.clone()),
        None => Offered::Talk,
    }
}

impl Resources {
    fn within(&self, bound: &Self, times: f64) -> bool {
        self.each().iter().zip(bound.each()).all(|(used, bound)| used * times <= bound)
    }

    /// The same, with nothing for what is not known.
    fn known(&self) -> Self {
        let or_none = |used: f64| if used.is_finite() { used } else { 0.0 };
        Self {
            websockets: or_none(self.websockets),
            socket_memory_bytes: or_none(self.socket_memory_bytes),
            bytes_per_second: or_none(self.bytes_per_second),
            upgrades_per_second: or_none(self.upgrades_per_second),
        }
    }

    fn each(&self) -> [f64; 4] {
        [self.websockets, self.socket_memory_bytes, self.bytes_per_second, self.upgrades_per_second]
    }
}
