//! Size, alignment and offset of everything that kernel and user space share. A failure here means a new ABI version.

use core::mem::{align_of, offset_of, size_of};
use std::collections::HashSet;

use weir_common::{
    errand::Errand,
    event::Event,
    gate::{Bucket, DropEvent, GatePolicy, GateRecord, PrefixEntry, PrefixKey},
    host::{HostPolicy, HostUsage},
    listener::{self, ANY_V4, ANY_V6, Listener, ListenerKey, mapped},
    names,
    reason::{CLOSES, Close, REFUSALS, Refusal},
    socket::{self, SocketTag},
    sockopt::{Op, SourceCorrection},
    source::{self, SourceKey, SourceUsage},
    verdict::{FIRST_DROP, OUTCOMES, Outcome, Rule, ZONE_DROPS},
    zone::{FLAG_BLOCKED, FLAG_LEASED, ZoneKey, ZoneLeases, ZonePolicy, ZoneUsage},
};

macro_rules! layout {
    ($ty:ty, size $size:expr, align $align:expr, $($field:ident @ $offset:expr),+ $(,)?) => {
        assert_eq!(size_of::<$ty>(), $size, concat!("size of ", stringify!($ty)));
        assert_eq!(align_of::<$ty>(), $align, concat!("alignment of ", stringify!($ty)));
        $(assert_eq!(offset_of!($ty, $field), $offset, concat!(stringify!($ty), ".", stringify!($field)));)+
    };
}

#[test]
fn structs_have_the_layout_of_abi_version_5() {
    assert_eq!(weir_common::ABI_VERSION, 5, "raise the version and this test together");
    layout!(ZonePolicy, size 128, align 64, key @ 0, guideline @ 8, abuse_cap @ 16, socket_cap @ 24, flags @ 32,
        source_cap @ 40, reserved @ 48, leases @ 64, reserved_for_leases @ 104);
    layout!(ZoneLeases, size 40, align 8, block_until_boot_ns @ 0, verdict_cap @ 8, verdict_until_boot_ns @ 16,
        limit_cap @ 24, limit_until_boot_ns @ 32);
    layout!(ZoneUsage, size 320, align 64,
        sockets @ 0, websockets @ 8, websockets_peak @ 16, unconnected @ 24, joined_total @ 32, left_total @ 40,
        admitted_total @ 48, ended_total @ 56, rx_bytes @ 64, tx_bytes @ 72, refusal_event_ns @ 80,
        guideline_event_ns @ 88, dropped @ 96, refused @ 128, closed @ 256, released_total @ 288,
        lived_total @ 296, lived_sum @ 304, lived_squares @ 312);
    layout!(SocketTag, size 56, align 8, slot @ 0, flags @ 4, source @ 8, source_ordinal @ 28, rx_counted @ 32,
        tx_counted @ 40, born_boot_ns @ 48);
    layout!(Errand, size 64, align 8, tuple @ 0, tuple_len @ 36, slot @ 40, flags @ 44, rx_counted @ 48, tx_counted @ 56);
    layout!(SourceKey, size 20, align 4, address @ 0, prefix_len @ 16);
    layout!(SourceCorrection, size 32, align 8, key @ 0, reserved @ 20, add @ 24);
    layout!(SourceUsage, size 32, align 8, joined_total @ 0, left_total @ 8, row @ 16, live @ 24);
    layout!(ListenerKey, size 20, align 4, address @ 0, port @ 16);
    layout!(Listener, size 16, align 8, slot @ 0, flags @ 4, source_cap @ 8);
    layout!(Event, size 40, align 8, at_ns @ 0, zone_key @ 8, websockets @ 16, bound @ 24, kind @ 32, reason @ 36);
    layout!(HostUsage, size 256, align 64, abi_version @ 0, netns_cookie @ 8, cgroup_id @ 16, refused @ 24,
        events_lost @ 152, untracked_total @ 160, contended_total @ 168, sources_full_total @ 176,
        sources_missed_total @ 184, source_rows_total @ 192, source_rows_gone_total @ 200, doomed @ 208, zero @ 216,
        doomed_total @ 224, reserved @ 232);
    layout!(HostPolicy, size 128, align 64, source_v4_len @ 0, source_v6_len @ 8, mark_mask @ 16, mark_base @ 24,
        agent_uid @ 32, adopting @ 40, reserved @ 48);
}

#[test]
fn the_gates_structs_have_the_layout_of_this_version() {
    layout!(PrefixKey, size 20, align 4, prefix_len @ 0, address @ 4);
    layout!(PrefixEntry, size 16, align 8, until_boot_ns @ 0, prefix_len @ 8, by @ 12);
    layout!(Bucket, size 8, align 8, full_at_ns @ 0);
    layout!(GatePolicy, size 64, align 64, dry @ 0, syn_token_ns @ 8, syn_burst_ns @ 16, allow_entries @ 24,
        deny_entries @ 32, reserved @ 40);
    layout!(GateRecord, size 320, align 64, policy @ 0, event_ns @ 64);
    layout!(DropEvent, size 64, align 8, at_boot_ns @ 0, zone_key @ 8, source @ 16, destination @ 32, port @ 48,
        outcome @ 52, dry @ 56, reserved @ 60);
}

#[test]
fn outcomes_are_numbered_in_order_and_labelled_once() {
    let mut last = None;
    for outcome in Outcome::ALL {
        assert!(Some(outcome as u32) > last, "{outcome:?} stands out of order, or twice");
        last = Some(outcome as u32);
        assert_eq!(Outcome::from_raw(outcome as u32), Some(outcome));
        assert_eq!(outcome.rule().is_some(), outcome as u32 >= FIRST_DROP, "{outcome:?}: a rule drops");
        assert_eq!(outcome.zone_drop().is_some(), outcome.rule() == Some(Rule::Zone));
        assert!(outcome.zone_drop().is_none_or(|index| index < ZONE_DROPS));
        assert!(outcome.counter() < OUTCOMES && (OUTCOMES..2 * OUTCOMES).contains(&outcome.dry_counter()));
    }
    let labels: HashSet<_> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
    assert_eq!(labels.len(), Outcome::ALL.len());
    // Numbers that are out in the world.
    assert_eq!(Outcome::Clean as u32, 4);
    assert_eq!(Outcome::DenyConfigured as u32, 8);
    assert_eq!(Outcome::WebsocketCap as u32, 15);
    assert_eq!(Rule::ALL.map(Rule::bit), [1, 2, 4, 8]);
}

#[test]
fn reasons_are_numbered_in_order_and_labelled_once() {
    let mut last = None;
    for refusal in Refusal::ALL {
        assert!(Some(refusal as u32) > last, "{refusal:?} stands out of order, or twice");
        last = Some(refusal as u32);
        assert_eq!(Refusal::from_raw(refusal as u32), Some(refusal));
        assert!(refusal.counter() < REFUSALS && (refusal as usize) < 2 * REFUSALS);
        assert_eq!(refusal.names_a_zone(), refusal.counter() == refusal as usize);
        assert!(refusal.errno() > 0);
    }
    assert_eq!(Refusal::from_raw(15), None);
    assert_eq!(Refusal::ALL.iter().map(|r| r.label()).collect::<HashSet<_>>().len(), Refusal::ALL.len());
    // Numbers that are out in the world.
    assert_eq!(Refusal::AbuseCap as u32, 2);
    assert_eq!(Refusal::CannotFollow as u32, 9);
    assert_eq!(Refusal::Verdict as u32, 10);
    assert_eq!(Refusal::SourceCap as u32, 11);
    assert_eq!(Refusal::ZoneUnknown as u32, 16);
    assert_eq!(Refusal::AbiMismatch as u32, 21);
    for (number, close) in Close::ALL.iter().enumerate() {
        assert_eq!(*close as usize, number);
    }
    assert!(Close::ALL.len() <= CLOSES);
}

#[test]
fn refusals_reach_the_caller_as_the_documented_errno() {
    assert_eq!(Refusal::ZoneUnknown.errno(), 2, "ENOENT");
    assert_eq!(Refusal::ZoneBlocked.errno(), 13, "EACCES");
    assert_eq!(Refusal::SocketCap.errno(), 24, "EMFILE");
    assert_eq!(Refusal::AbuseCap.errno(), 122, "EDQUOT");
    assert_eq!(Refusal::Limit.errno(), 87, "EUSERS");
    assert_eq!(Refusal::Verdict.errno(), 111, "ECONNREFUSED");
    assert_eq!(Refusal::SourceCap.errno(), 28, "ENOSPC");
    assert_eq!(Refusal::CallerNotAllowed.errno(), 1, "EPERM");
    assert_eq!(Refusal::SocketClosed.errno(), 107, "ENOTCONN");
    assert_eq!(Refusal::NotAdmitted.errno(), 22, "EINVAL");
    assert_eq!(Refusal::AlreadyAdmitted.errno(), 114, "EALREADY");
}

#[test]
fn a_customer_that_is_turned_away_can_be_told_why() {
    for refusal in Refusal::ALL.into_iter().filter(|refusal| refusal.is_admission()) {
        let same: Vec<_> =
            Refusal::ALL.into_iter().filter(|other| other.errno() == refusal.errno()).collect();
        assert_eq!(same, [refusal], "an errno of its own");
    }
}

#[test]
fn leases_end_by_themselves() {
    assert!(!ZoneLeases::NONE.hold(0));
    let block = ZoneLeases { block_until_boot_ns: 9, ..ZoneLeases::NONE };
    assert!(block.hold(8) && !block.hold(9));
    assert!(ZoneLeases { verdict_until_boot_ns: 9, ..ZoneLeases::NONE }.hold(8));
    assert!(ZoneLeases { limit_until_boot_ns: 9, ..ZoneLeases::NONE }.hold(8));
}

#[test]
fn flags_do_not_overlap() {
    assert_eq!(FLAG_BLOCKED & FLAG_LEASED, 0);
    let flags = [
        socket::COUNTED,
        socket::ADMITTED,
        socket::UNCONNECTED,
        socket::ORIGIN_SIDE,
        socket::PEER_CLOSED,
        socket::LOCAL_CLOSED,
        socket::DEAD,
        socket::SOURCED,
        socket::DOOMED,
        socket::OVER_SOURCE_CAP,
    ];
    assert_eq!(flags.iter().fold(0, |all, flag| all | flag).count_ones() as usize, flags.len());
}

#[test]
fn names_fit_into_the_kernels_15_characters_and_are_unique() {
    let all: Vec<_> = names::PINNED_MAPS
        .iter()
        .chain(&names::PROGRAMS)
        .chain([&names::PROG_XDP, &names::GLOBAL_NETNS])
        .collect();
    assert!(all.iter().all(|name| name.len() <= 15), "{all:?}");
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
}

#[test]
fn zone_keys_are_fnv_1a() {
    // Vectors of the FNV reference (draft-eastlake-fnv).
    assert_eq!(ZoneKey::of("").to_raw(), 0xcbf2_9ce4_8422_2325);
    assert_eq!(ZoneKey::of("a").to_raw(), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(ZoneKey::of("foobar").to_raw(), 0x8594_4171_f739_67e8);
}

#[test]
fn listener_addresses_are_ipv6() {
    let words = |text: &str| listener::words(text.parse::<std::net::Ipv6Addr>().unwrap().octets());
    assert_eq!(mapped(u32::from_ne_bytes([192, 0, 2, 1])), words("::ffff:192.0.2.1"));
    assert_eq!(ANY_V4, words("::ffff:0.0.0.0"));
    assert_eq!(ANY_V6, words("::"));
    assert!(listener::is_mapped(&words("::ffff:192.0.2.1")) && listener::is_mapped(&ANY_V4));
    assert!(!listener::is_mapped(&ANY_V6) && !listener::is_mapped(&words("2001:db8::ffff:192.0.2.1")));
}

#[test]
fn operations_have_fixed_numbers() {
    for op in [Op::Probe, Op::Attribute, Op::Admit, Op::Release, Op::CorrectSource] {
        assert_eq!(Op::from_raw(op as i32), Some(op));
    }
    assert_eq!(Op::from_raw(5), None);
    assert_eq!(Op::from_raw(-1), None);
    assert_eq!(weir_common::sockopt::LEVEL.to_be_bytes(), *b"WEIR");
}

#[test]
fn a_source_is_the_prefix_of_its_family() {
    let address = |text: &str| listener::words(text.parse::<std::net::Ipv6Addr>().unwrap().octets());
    let key = |text: &str, v4_len, v6_len| SourceKey::of(&address(text), v4_len, v6_len);
    let prefix = |text: &str, prefix_len| SourceKey { address: address(text), prefix_len };
    assert_eq!(key("::ffff:192.0.2.77", source::V4_LEN, source::V6_LEN), prefix("::ffff:192.0.2.77", 128));
    assert_eq!(key("::ffff:192.0.2.77", 24, 64), prefix("::ffff:192.0.2.0", 120));
    assert_eq!(key("::ffff:192.0.2.77", 26, 64), prefix("::ffff:192.0.2.64", 122));
    assert_eq!(key("::ffff:192.0.2.77", 0, 64), prefix("::ffff:0.0.0.0", 96));
    assert_eq!(key("2001:db8:1:2:3:4:5:6", 32, source::V6_LEN), prefix("2001:db8:1:2::", 64));
    assert_eq!(key("2001:db8:1:ff:3:4:5:6", 32, 56), prefix("2001:db8:1::", 56));
    assert_eq!(key("2001:db8:1:2:3:4:5:6", 32, 128), prefix("2001:db8:1:2:3:4:5:6", 128));
    assert_eq!(key("2001:db8:1:2:3:4:5:6", 32, 0), prefix("::", 0));
    // An IPv6 prefix is never an IPv4 one, whatever the lengths.
    assert_ne!(key("::1", 0, 0), key("::ffff:192.0.2.1", 0, 0));
    assert_ne!(
        key("::ffff:192.0.2.0", 24, 64),
        key("::ffff:192.0.2.0", 32, 64),
        "the length is part of the key"
    );
}

#[test]
fn a_closed_row_counts_nothing() {
    assert_eq!(SourceUsage::live(source::CLOSED), 0);
    assert_eq!(SourceUsage::live(7), 7);
    assert_eq!(SourceUsage::live(0_u64.wrapping_sub(1)), 0, "a count below 0 is told as 0");
}

#[test]
fn a_mark_is_a_zones_number_and_a_flag_in_the_configured_range() {
    use weir_common::mark::{Marked, number_of, read, websocket_flag};
    let (mask, base) = (0xff00_0000, 0x5700_0000);
    assert_eq!(websocket_flag(mask), 0x0080_0000);
    assert_eq!(read(0x5700_002a, mask, base), Some(Marked { number: 42, is_websocket: false }));
    assert_eq!(read(0x5780_002a, mask, base), Some(Marked { number: 42, is_websocket: true }));
    assert_eq!(read(0x5800_002a, mask, base), None, "somebody else's mark");
    assert_eq!(read(0, mask, base), None);
    assert_eq!(read(0x5700_002a, 0, 0), None, "without a mask no mark is weir's");
    for name in ["a.test", "b.test", "example.com"] {
        let number = number_of(ZoneKey::of(name), mask, 0);
        assert!((1..0x0080_0000).contains(&number), "{number:#x}");
        assert_eq!(read(base | number, mask, base), Some(Marked { number, is_websocket: false }));
    }
    let turns = [0, 1, 2, 3].map(|turn| number_of(ZoneKey::of("a.test"), mask, turn));
    assert_eq!(turns, [0, 1, 2, 3].map(|turn| number_of(ZoneKey::of("a.test"), mask, turn)));
    assert!((1..4).all(|turn| !turns[..turn].contains(&turns[turn])), "{turns:?}");
}
