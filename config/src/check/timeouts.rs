//! The time limits of `[proxy]`, and those of a zone, which has the host's where it says nothing.

use super::{MILLISECOND, WEEK};
use crate::{model::Timeouts, raw::Section};

/// Enough for anything that is no attack; beyond it a number is a slip.
const MAX_BYTES_PER_SECOND: u64 = 1_000_000;

/// Reads the keys of `section`; what it lacks is as in `base`.
pub(super) fn read(section: &Section<'_>, base: &Timeouts) -> Timeouts {
    let range = || MILLISECOND..=WEEK;
    let duration =
        |key, base| section.get(key).and_then(|value| value.duration(range(), base)).unwrap_or(base);
    let optional = |key, base, example| {
        section.get(key).and_then(|value| value.duration_or_none(range(), example)).unwrap_or(base)
    };
    let defaults = Timeouts::default();
    let hour = defaults.half_closed;
    Timeouts {
        header: duration("header_timeout", base.header),
        tls_handshake: duration("tls_handshake_timeout", base.tls_handshake),
        keep_alive: duration("keep_alive_timeout", base.keep_alive),
        connect: duration("connect_timeout", base.connect),
        response: duration("response_timeout", base.response),
        stall: duration("stall_timeout", base.stall),
        min_body_bytes_per_second: section
            .get("min_body_bytes_per_second")
            .and_then(|value| value.number(0..=MAX_BYTES_PER_SECOND, defaults.min_body_bytes_per_second))
            .unwrap_or(base.min_body_bytes_per_second),
        half_closed: duration("half_closed_timeout", base.half_closed),
        tunnel_idle: optional("tunnel_idle_timeout", base.tunnel_idle, hour),
        tunnel_max_life: optional("tunnel_max_life", base.tunnel_max_life, 24 * hour),
    }
}
