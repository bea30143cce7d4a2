//! What the sockets of a zone hold, by the kernel's list: sums, the oldest, and two quantiles of their round-trip times.
//!
//! A zone costs a few words, and eight bytes for each of the at most 240 classes of round-trip times that its sockets are in: nothing
//! is kept by socket, of which there are a million.

use std::{collections::HashMap, time::Duration};

use weir_common::socket::SocketTag;

use crate::kernel::SocketHolds;

/// Of one zone, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Whose they are; a slot may be another zone's by now.
    pub zone_key: u64,
    pub sockets: u64,
    pub memory_bytes: u64,
    pub receive_queue_bytes: u64,
    pub send_queue_bytes: u64,
    /// Of sockets that live.
    pub retransmits: u64,
    pub oldest: Duration,
    /// `None` if no socket has measured one.
    pub rtt_median: Option<Duration>,
    pub rtt_p95: Option<Duration>,
}

/// What an audit saw.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// Of those that have sockets, by slot.
    pub zones: HashMap<u32, Holding>,
    pub all: Holding,
}

/// Holdings that are being added up.
#[derive(Default)]
pub struct Sums {
    zones: HashMap<u32, Sum>,
    all: Sum,
}

impl Sums {
    pub fn see(&mut self, tag: &SocketTag, holds: &SocketHolds) {
        self.zones.entry(tag.slot).or_default().see(tag, holds);
        self.all.see(tag, holds);
    }

    /// `key` is the zone's of a slot.
    pub fn finish(self, now_boot_ns: u64, key: impl Fn(u32) -> u64) -> Holdings {
        let zones = self.zones.into_iter().map(|(slot, sum)| (slot, sum.holding(now_boot_ns, key(slot))));
        Holdings { zones: zones.collect(), all: self.all.holding(now_boot_ns, 0) }
    }
}

#[derive(Default)]
struct Sum {
    holding: Holding,
    oldest_born_ns: Option<u64>,
    rtts: Rtts,
}

impl Sum {
    fn see(&mut self, tag: &SocketTag, holds: &SocketHolds) {
        let holding = &mut self.holding;
        holding.sockets += 1;
        holding.memory_bytes += holds.memory_bytes;
        holding.receive_queue_bytes += holds.receive_queue_bytes;
        holding.send_queue_bytes += holds.send_queue_bytes;
        holding.retransmits += holds.retransmits;
        self.oldest_born_ns =
            Some(self.oldest_born_ns.map_or(tag.born_boot_ns, |ns| ns.min(tag.born_boot_ns)));
        self.rtts.add(holds.rtt_us);
    }

    fn holding(self, now_boot_ns: u64, zone_key: u64) -> Holding {
        let age = |born_ns| Duration::from_nanos(now_boot_ns.saturating_sub(born_ns));
        Holding {
            zone_key,
            oldest: self.oldest_born_ns.map_or(Duration::ZERO, age),
            rtt_median: self.rtts.quantile(50),
            rtt_p95: self.rtts.quantile(95),
            ..self.holding
        }
    }
}

/// Round-trip times in classes of a sixteenth of an octave's width on either side of their middle: told to 6 %.
#[derive(Default)]
struct Rtts {
    /// Class and number, by class; those that are empty are left out.
    classes: Vec<(u8, u32)>,
    count: u64,
}

impl Rtts {
    fn add(&mut self, rtt_us: u32) {
        if rtt_us == 0 {
            return;
        }
        let class = class(rtt_us);
        match self.classes.binary_search_by_key(&class, |(class, _)| *class) {
            Ok(at) => self.classes[at].1 += 1,
            Err(at) => self.classes.insert(at, (class, 1)),
        }
        self.count += 1;
    }

    fn quantile(&self, percent: u64) -> Option<Duration> {
        let rank = (self.count * percent).div_ceil(100);
        let mut below = 0;
        self.classes.iter().find_map(|(class, number)| {
            below += u64::from(*number);
            (below >= rank).then(|| Duration::from_micros(middle(*class)))
        })
    }
}

/// Eight classes an octave; below 8 us each number is one.
fn class(rtt_us: u32) -> u8 {
    if rtt_us < 8 {
        return rtt_us as u8;
    }
    let shift = rtt_us.ilog2() - 3;
    ((shift << 3 | (rtt_us >> shift) & 7) + 8) as u8
}

fn middle(class: u8) -> u64 {
    if class < 8 {
        return class.into();
    }
    let (shift, eighth) = ((class - 8) >> 3, u64::from((class - 8) & 7));
    let width = 1_u64 << shift;
    (8 + eighth) * width + width / 2
}

#[cfg(test)]
mod tests {
    use weir_common::source::SourceKey;

    use super::*;

    fn tag(slot: u32, born_boot_ns: u64) -> SocketTag {
        let source = SourceKey { address: [0; 4], prefix_len: 0 };
        SocketTag { slot, flags: 1, source, source_ordinal: 0, rx_counted: 0, tx_counted: 0, born_boot_ns }
    }

    fn holds(bytes: u64, rtt_us: u32) -> SocketHolds {
        SocketHolds {
            memory_bytes: bytes,
            receive_queue_bytes: 2 * bytes,
            send_queue_bytes: 3 * bytes,
            retransmits: 1,
            rtt_us,
            ..SocketHolds::default()
        }
    }

    #[test]
    fn a_class_is_within_six_percent_of_what_is_in_it() {
        let mut last = 0;
        for rtt_us in (1..100_000).chain((100_000..200_000_000).step_by(9973)).chain([u32::MAX]) {
            let class = class(rtt_us);
            assert!(class >= last && class < 240, "{rtt_us}");
            last = class;
            let off = (middle(class) as f64 / f64::from(rtt_us) - 1.0).abs();
            assert!(off <= 0.0626, "{rtt_us} is told as {}", middle(class));
        }
    }

    #[test]
    fn zones_are_added_up_apart_and_together() {
        let mut sums = Sums::default();
        for n in 1..=100 {
            sums.see(&tag(1, 1_000_000_000 * n), &holds(1, if n <= 90 { 6 } else { 800_000 }));
        }
        sums.see(&tag(2, 500), &holds(1000, 0));
        let holdings = sums.finish(200_000_000_000, |slot| u64::from(slot) + 70);
        let one = &holdings.zones[&1];
        assert_eq!((one.zone_key, one.sockets, one.memory_bytes, one.retransmits), (71, 100, 100, 100));
        assert_eq!((one.receive_queue_bytes, one.send_queue_bytes), (200, 300));
        assert_eq!(one.oldest, Duration::from_secs(199));
        assert_eq!(one.rtt_median, Some(Duration::from_micros(6)));
        let p95 = one.rtt_p95.unwrap().as_millis();
        assert!((750..=850).contains(&p95), "{p95} ms");
        assert_eq!((holdings.zones[&2].rtt_median, holdings.zones[&2].rtt_p95), (None, None));
        assert_eq!((holdings.all.sockets, holdings.all.memory_bytes), (101, 1100));
        assert_eq!(holdings.all.oldest.as_nanos(), 200_000_000_000 - 500);
    }
}
