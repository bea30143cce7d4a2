//! An act as it was asked for, read and bounded: what exists here can be recorded.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use time::OffsetDateTime;
use weir_reachout::{
    actor::Reason,
    hand::{HandAct, LONGEST},
};

use super::wire::ActRequest;

/// Of a reason or a verdict, in characters.
const LONGEST_TEXT: usize = 1000;
/// The widest prefixes that are taken for meant: a slip of the hand must not drop half of the internet.
const WIDEST: (u8, u8) = (8, 16);

/// An act that can be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A lease on a prefix, or on the zone.
    Lease { zone: String, act: HandAct, reason: Reason },
    /// The end of one.
    End { zone: String, act: HandAct, reason: Reason },
    /// `reason` is `None` for a dry run.
    Kill { target: Target, reason: Option<Reason> },
}

/// Whose established sockets are ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Zone(String),
    Source(IpNet),
}

/// What is wrong with what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    #[error("a {0} has to be given: it is what others will read in the ledger")]
    NoText(&'static str),
    #[error("the {0} has more than {LONGEST_TEXT} characters: write the gist, and where the rest is")]
    LongText(&'static str),
    #[error("the {0} has a control character")]
    ControlCharacter(&'static str),
    #[error("the {0} has a character that is not seen, or that turns the text around it (U+{1:04X})")]
    Unseen(&'static str, u32),
    #[error("a lease lasts from 1 s to {} days: repeat it in time if it has to last longer", LONGEST.whole_days())]
    Duration,
    #[error("`{0}` is no address and no prefix such as 203.0.113.0/24 or 2001:db8::/48")]
    NoPrefix(String),
    #[error("{given} has bits behind its length: did you mean {meant}?")]
    HostBits { given: IpNet, meant: IpNet },
    #[error("{0} is wider than /{v4} (IPv6: /{v6}): that is no source, that is a part of the internet", v4 = WIDEST.0, v6 = WIDEST.1)]
    Wide(IpNet),
    #[error("name either a zone or a source")]
    Target,
}

impl Asked {
    /// Reads a request that came at this time.
    pub fn read(request: ActRequest, at: OffsetDateTime) -> Result<Self, Unclear> {
        let none = String::new;
        Ok(match request {
            ActRequest::DenyAdd { prefix, for_seconds, reason } => {
                let act = HandAct::DenyAdd {
                    prefix: self::prefix(&prefix)?.to_string(),
                    until: until(at, for_seconds)?,
                };
                Self::Lease { zone: none(), act, reason: text("reason", reason)? }
            }
            ActRequest::DenyRemove { prefix, reason } => {
                let act = HandAct::DenyRemove { prefix: self::prefix(&prefix)?.to_string() };
                Self::End { zone: none(), act, reason: text("reason", reason)? }
            }
            ActRequest::CapSet { zone, websockets, for_seconds, verdict } => {
                let act = HandAct::CapSet { websockets, until: until(at, for_seconds)? };
                Self::Lease { zone, act, reason: text("verdict", verdict)? }
            }
            ActRequest::CapClear { zone, reason } => {
                Self::End { zone, act: HandAct::CapClear, reason: text("reason", reason)? }
            }
            ActRequest::ZoneBlock { zone, for_seconds, reason } => {
                let act = HandAct::ZoneBlock { until: until(at, for_seconds)? };
                Self::Lease { zone, act, reason: text("reason", reason)? }
            }
            ActRequest::ZoneUnblock { zone, reason } => {
                Self::End { zone, act: HandAct::ZoneUnblock, reason: text("reason", reason)? }
            }
            ActRequest::Kill { zone, source, dry_run, reason } => {
                let target = match (zone, source) {
                    (Some(zone), None) => Target::Zone(zone),
                    (None, Some(source)) => Target::Source(prefix(&source)?),
                    _ => return Err(Unclear::Target),
                };
                let reason = if dry_run { None } else { Some(text("reason", reason)?) };
                Self::Kill { target, reason }
            }
        })
    }
}

fn until(at: OffsetDateTime, for_seconds: u64) -> Result<OffsetDateTime, Unclear> {
    let longest = u64::try_from(LONGEST.whole_seconds()).unwrap_or(0);
    if !(1..=longest).contains(&for_seconds) {
        return Err(Unclear::Duration);
    }
    Ok(at + Duration::from_secs(for_seconds))
}

fn text(what: &'static str, text: String) -> Result<Reason, Unclear> {
    if text.chars().count() > LONGEST_TEXT {
        return Err(Unclear::LongText(what));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(Unclear::ControlCharacter(what));
    }
    if let Some(unseen) = text.chars().find(|c| is_unseen(*c)) {
        return Err(Unclear::Unseen(what, unseen.into()));
    }
    Reason::new(text).map_err(|_| Unclear::NoText(what))
}

/// What others read in the ledger has to be what is there: no marks of direction, no characters without width. (Joiners stay: scripts
/// and emoji are written with them.)
const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// An IPv4 prefix in IPv6 clothes is the IPv4 prefix.
fn prefix(text: &str) -> Result<IpNet, Unclear> {
    let given = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let given = given.map_err(|_| Unclear::NoPrefix(text.chars().take(64).collect()))?;
    if given.trunc() != given {
        return Err(Unclear::HostBits { given, meant: given.trunc() });
    }
    let net = match given {
        IpNet::V6(net) if net.prefix_len() >= 96 => match net.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new(v4.into(), net.prefix_len() - 96).unwrap_or(given),
            None => given,
        },
        _ => given,
    };
    // The kernel's list has IPv4 in its mapped form, so this would be all of it.
    let holds_ipv4 =
        |net: &IpNet| net.contains(&IpAddr::V6(std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()));
    if net.addr().is_ipv6() && holds_ipv4(&net) {
        return Err(Unclear::Wide(net));
    }
    let widest = if net.addr().is_ipv4() { WIDEST.0 } else { WIDEST.1 };
    if net.prefix_len() < widest { Err(Unclear::Wide(net)) } else { Ok(net) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: OffsetDateTime = time::macros::datetime!(2026-03-01 00:00 UTC);

    fn deny(prefix: &str, for_seconds: u64, reason: &str) -> Result<Asked, Unclear> {
        let (prefix, reason) = (prefix.to_owned(), reason.to_owned());
        Asked::read(ActRequest::DenyAdd { prefix, for_seconds, reason }, AT)
    }

    #[test]
    fn a_prefix_has_one_way_to_be_written() {
        for (given, kept) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("2001:DB8:0::/48", "2001:db8::/48"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ] {
            assert_eq!(prefix(given).map(|net| net.to_string()), Ok(kept.to_owned()), "{given}");
        }
    }

    #[test]
    fn a_slip_is_told_with_what_was_meant() {
        let error = prefix("203.0.113.7/24").unwrap_err().to_string();
        assert!(error.contains("203.0.113.0/24"), "{error}");
        assert!(matches!(prefix("10.0.0.0/7"), Err(Unclear::HostBits { .. } | Unclear::Wide(_))));
        for wide in ["0.0.0.0/0", "8.0.0.0/7", "::/0", "2001::/15", "::/16", "::/80", "::ffff:0.0.0.0/96"] {
            assert!(prefix(wide).is_err(), "{wide}");
        }
        for none in ["", "example.com", "203.0.113.0/33", "203.0.113.0/", "1.2.3"] {
            assert!(matches!(prefix(none), Err(Unclear::NoPrefix(_))), "{none}");
        }
    }

    #[test]
    fn a_lease_has_an_end_and_a_reason() {
        assert!(deny("203.0.113.0/24", 30 * 24 * 3600, "scanner").is_ok());
        assert_eq!(deny("203.0.113.0/24", 0, "scanner"), Err(Unclear::Duration));
        assert_eq!(deny("203.0.113.0/24", 30 * 24 * 3600 + 1, "scanner"), Err(Unclear::Duration));
        assert_eq!(deny("203.0.113.0/24", u64::MAX, "scanner"), Err(Unclear::Duration));
        assert_eq!(deny("203.0.113.0/24", 60, " \n"), Err(Unclear::NoText("reason")));
        assert_eq!(deny("203.0.113.0/24", 60, "\x1b[2J"), Err(Unclear::ControlCharacter("reason")));
        assert_eq!(deny("203.0.113.0/24", 60, &"x".repeat(1001)), Err(Unclear::LongText("reason")));
        assert!(deny("203.0.113.0/24", 60, &"ü".repeat(1000)).is_ok());
        for unseen in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{2028}'] {
            let reason = format!("scanner{unseen}txt");
            assert_eq!(deny("203.0.113.0/24", 60, &reason), Err(Unclear::Unseen("reason", unseen.into())));
        }
        assert!(deny("203.0.113.0/24", 60, "מנתח, 👩\u{200d}💻").is_ok());
    }

    #[test]
    fn a_kill_has_one_target_and_only_a_dry_run_needs_no_reason() {
        let kill = |zone: Option<&str>, source: Option<&str>, dry_run, reason: &str| {
            let (zone, source) = (zone.map(str::to_owned), source.map(str::to_owned));
            Asked::read(ActRequest::Kill { zone, source, dry_run, reason: reason.to_owned() }, AT)
        };
        assert_eq!(kill(None, None, true, ""), Err(Unclear::Target));
        assert_eq!(kill(Some("z"), Some("192.0.2.1"), true, ""), Err(Unclear::Target));
        assert_eq!(kill(Some("z"), None, false, ""), Err(Unclear::NoText("reason")));
        assert_eq!(
            kill(Some("z"), None, true, ""),
            Ok(Asked::Kill { target: Target::Zone("z".to_owned()), reason: None })
        );
        assert!(kill(None, Some("192.0.2.1"), false, "botnet").is_ok());
    }
}
