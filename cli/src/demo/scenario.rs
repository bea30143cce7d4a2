//! The cast: twelve zones on three plans, and how many WebSockets each wants when.
//!
//! Names end in `.localhost`, which browsers and curl take to the loopback address by themselves (RFC 6761, 6.3).

use std::time::Duration;

/// A plan of the demo.
pub struct Plan {
    pub name: &'static str,
    pub guideline: u64,
    pub abuse_cap: u64,
}

pub const PLANS: [Plan; 3] = [
    Plan { name: "business", guideline: 300, abuse_cap: 3000 },
    Plan { name: "pro", guideline: 100, abuse_cap: 1000 },
    Plan { name: "free", guideline: 20, abuse_cap: 200 },
];

/// A zone of the demo.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    pub zone: &'static str,
    pub plan: &'static str,
    /// Its clients come by wss.
    pub tls: bool,
    pub pattern: Pattern,
}

/// How many WebSockets a zone's clients want.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    base: usize,
    /// The base goes up and down by so many.
    sway: usize,
    spike: Option<Spike>,
}

/// A time in which a zone's clients want more.
#[derive(Clone, Copy, Debug)]
struct Spike {
    wanted: usize,
    first: Duration,
    hold: Duration,
    /// From one to the next.
    every: Duration,
}

/// The zone that the demo leaves to whoever watches it.
pub const GUEST: &str = "you.localhost";

/// Spikes stay in the order of a first minute: everything has happened once after 15 seconds.
pub const ROLES: [Role; 12] = [
    quiet("news.localhost", "business", true, 180, 9),
    quiet("game.localhost", "business", false, 240, 15),
    quiet("maps.localhost", "business", false, 120, 6),
    quiet("bank.localhost", "business", true, 90, 3),
    quiet("chat.localhost", "pro", true, 45, 4),
    quiet("desk.localhost", "pro", false, 30, 2),
    spiking("quiz.localhost", 22, Spike { wanted: 117, first: secs(6), hold: secs(3), every: secs(45) }),
    spiking("shop.localhost", 60, Spike { wanted: 140, first: secs(3), hold: secs(3), every: secs(9) }),
    quiet("blog.localhost", "free", true, 4, 1),
    quiet("club.localhost", "free", false, 9, 2),
    // Wants more than its abuse cap.
    Role {
        zone: "bots.localhost",
        plan: "free",
        tls: false,
        pattern: Pattern {
            base: 6,
            sway: 1,
            spike: Some(Spike { wanted: 260, first: secs(9), hold: secs(4), every: secs(15) }),
        },
    },
    quiet(GUEST, "free", false, 0, 0),
];

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn quiet(zone: &'static str, plan: &'static str, tls: bool, base: usize, sway: usize) -> Role {
    Role { zone, plan, tls, pattern: Pattern { base, sway, spike: None } }
}

const fn spiking(zone: &'static str, base: usize, spike: Spike) -> Role {
    Role { zone, plan: "pro", tls: false, pattern: Pattern { base, sway: 2, spike: Some(spike) } }
}

/// One way up and down of the base.
const SWAY: Duration = secs(8);

impl Pattern {
    /// The number of WebSockets that is wanted `at` a time after the beginning.
    pub fn wanted(&self, at: Duration) -> usize {
        match &self.spike {
            Some(spike) if spike.is_on(at) => spike.wanted,
            _ => self.base + self.swing(at),
        }
    }

    /// From 0 to twice `sway` and back, less `sway`: a triangle.
    fn swing(&self, at: Duration) -> usize {
        let position = (at.as_secs_f64() / SWAY.as_secs_f64()).fract();
        let height = 1.0 - (2.0 * position - 1.0).abs();
        (height * self.sway as f64).round() as usize
    }
}

impl Spike {
    fn is_on(&self, at: Duration) -> bool {
        let Some(since) = at.checked_sub(self.first) else { return false };
        let since_last = since.as_secs_f64() % self.every.as_secs_f64();
        since_last < self.hold.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(role: &Role) -> &'static Plan {
        PLANS.iter().find(|plan| plan.name == role.plan).unwrap()
    }

    /// The most that a zone wants in a second of the first half minute.
    fn highest(role: &Role) -> usize {
        (0..300).map(|tenth| role.pattern.wanted(Duration::from_millis(tenth * 100))).max().unwrap()
    }

    #[test]
    fn there_is_a_dozen_of_different_zones_on_three_plans() {
        let mut names: Vec<_> = ROLES.iter().map(|role| role.zone).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), PLANS.len()), (12, 3));
        assert!(PLANS.iter().all(|plan| ROLES.iter().any(|role| role.plan == plan.name)));
    }

    #[test]
    fn one_hits_its_cap_two_go_above_their_guideline_and_the_others_stay_below() {
        let above = |role: &&Role| highest(role) as u64 > plan(role).guideline;
        let names: Vec<_> = ROLES.iter().filter(above).map(|role| role.zone).collect();
        assert_eq!(names, ["quiz.localhost", "shop.localhost", "bots.localhost"]);
        let capped: Vec<_> =
            ROLES.iter().filter(|role| highest(role) as u64 > plan(role).abuse_cap).collect();
        assert_eq!(capped.len(), 1);
    }

    #[test]
    fn a_spike_ends_and_comes_again() {
        let shop = ROLES.iter().find(|role| role.zone == "shop.localhost").unwrap().pattern;
        let spikes: Vec<_> = (0..24).filter(|second| shop.wanted(secs(*second)) > 100).collect();
        assert_eq!(spikes, [3, 4, 5, 12, 13, 14, 21, 22, 23]);
    }
}
