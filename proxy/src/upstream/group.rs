//! The origins of a zone: requests take them in turn, and pass over those that are left out.
//!
//! One turn for all workers, so the origins get equal shares whatever runs where. An origin that is left out stays the last
//! resort: if nobody else takes the connection it is asked all the same, so a zone is never without an origin by our own
//! doing. What is known of an origin's health survives a reload as long as the origin is the zone's and reached as before.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::time::Instant;
use tracing::{info, warn};
use weir_config::ZoneName;

use super::{
    Endpoint,
    health::{Health, Rule},
};

pub(crate) struct Group {
    members: Vec<Arc<Member>>,
    turn: AtomicUsize,
}

/// An origin as one zone sees it.
pub(crate) struct Member {
    pub endpoint: Arc<Endpoint>,
    zone: ZoneName,
    health: Arc<Health>,
    rule: Rule,
    /// The zone has no other: leaving it out changes nothing, and is not worth a word.
    alone: bool,
}

impl Group {
    /// The zone's origins, in any order; at least one. `previous` is the zone's group before.
    pub(super) fn new(
        zone: &ZoneName,
        endpoints: Vec<Arc<Endpoint>>,
        rule: Rule,
        previous: Option<&Self>,
    ) -> Self {
        let alone = endpoints.len() == 1;
        let member = |endpoint: Arc<Endpoint>| {
            let before = previous.and_then(|group| {
                group.members.iter().find(|member| Arc::ptr_eq(&member.endpoint, &endpoint))
            });
            let health = before.map(|member| member.health.clone()).unwrap_or_default();
            Arc::new(Member { endpoint, zone: zone.clone(), health, rule, alone })
        };
        Self { members: endpoints.into_iter().map(member).collect(), turn: AtomicUsize::new(0) }
    }

    /// All of them, in the order in which the next request tries them.
    pub fn candidates(&self, now: Instant) -> Vec<&Arc<Member>> {
        let (mut sound, out): (Vec<_>, Vec<_>) =
            self.members.iter().partition(|member| !member.health.is_out(now));
        let turn = self.turn.fetch_add(1, Relaxed);
        let first = if sound.is_empty() { 0 } else { turn % sound.len() };
        sound.rotate_left(first);
        let last = if out.is_empty() { 0 } else { turn % out.len() };
        sound.extend(out.iter().cycle().skip(last).take(out.len()));
        sound
    }
}

impl Member {
    /// It has answered.
    pub fn succeeded(&self) {
        if self.health.succeeded() && !self.alone {
            info!(zone = %self.zone, origin = %self.endpoint, "an origin is back");
        }
    }

    /// It took no connection, or gave no answer that is one.
    pub fn failed(&self, now: Instant) {
        if let Some(lasts) = self.health.failed(self.rule, now)
            && !self.alone
        {
            let seconds = lasts.as_secs_f64();
            warn!(zone = %self.zone, origin = %self.endpoint, seconds, "an origin fails and is left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, thread, time::Duration};

    use super::*;
    use crate::upstream::endpoint;

    const RULE: Rule = Rule { max_fails: 1, timeout: Duration::from_secs(10) };

    fn group(ports: &[u16], previous: Option<&Group>) -> Group {
        let known = |port: &u16| {
            let same = previous.and_then(|group| {
                group.members.iter().find(|member| member.endpoint.to_string() == format!("127.0.0.1:{port}"))
            });
            same.map_or_else(|| endpoint::of_ip("127.0.0.1", *port), |member| member.endpoint.clone())
        };
        let zone = weir_config::Config::parse(
            "[proxy]\nhttp = [\"[::]:80\"]\n[plans.p]\nguideline = 1\n[[zones]]\nname = \"a\"\nplan = \"p\"\norigin = \"ws://a\"",
            std::path::Path::new("/"),
        );
        let name = zone.expect("valid").zones[0].name.clone();
        Group::new(&name, ports.iter().map(known).collect(), RULE, previous)
    }

    fn order(group: &Group, now: Instant) -> Vec<String> {
        let port =
            |member: &&Arc<Member>| member.endpoint.to_string().trim_start_matches("127.0.0.1:").to_owned();
        group.candidates(now).iter().map(port).collect()
    }

    #[test]
    fn turns_are_equal_over_all_workers() {
        let group = group(&[1, 2, 3], None);
        let firsts = thread::scope(|scope| {
            let worker = || (0..1000).map(|_| order(&group, Instant::now())[0].clone()).collect::<Vec<_>>();
            let workers: Vec<_> = (0..3).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect::<Vec<_>>()
        });
        let mut counts = HashMap::new();
        for first in firsts {
            *counts.entry(first).or_insert(0) += 1;
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [1000; 3]);
    }

    #[test]
    fn who_is_left_out_comes_last_and_nobody_is_lost() {
        let (group, now) = (group(&[1, 2, 3], None), Instant::now());
        group.members[1].failed(now);
        for _ in 0..6 {
            let order = order(&group, now);
            assert_eq!((order.len(), order[2].as_str()), (3, "2"), "{order:?}");
        }
        group.members[0].failed(now);
        group.members[2].failed(now);
        let all = order(&group, now);
        assert_eq!(all.len(), 3, "all are out, and all are tried anyway");
        group.members[1].succeeded();
        assert_eq!(order(&group, now)[0], "2");
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_an_origin_that_stays() {
        let (first, now) = (group(&[1, 2], None), Instant::now());
        first.members[0].failed(now);
        let second = group(&[3, 1], Some(&first));
        assert_eq!(order(&second, now), ["3", "1"]);
        let other = group(&[1, 2], None);
        assert!(other.candidates(now).iter().all(|member| !member.health.is_out(now)));
    }
}
