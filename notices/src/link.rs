//! Signed links: a token names a case and a time, and proves both. It holds no secret and nothing about a person.
//!
//! A token is base64url of: version (1), key's number (4), end (8, seconds since 1970), all big endian, the case, and HMAC-SHA256
//! (32) of all that, with a label in front. Whoever has a link may answer for the case until its end: a link is as good as the mail that it came in.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use time::OffsetDateTime;

use crate::keys::Keys;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 4 + 8;
const MAC: usize = 32;
const LONGEST_CASE: usize = 64;
/// So that a signature of anything else by the same key is none of a link.
const LABEL: &[u8] = b"weir link\0";

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub case: String,
    pub until: OffsetDateTime,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Made by nobody here, cut, or signed by a key that is gone.
    #[error("this link was not made here, or its key is gone")]
    Unknown,
    #[error("this link was good until {until}")]
    Expired { until: OffsetDateTime },
}

/// A token for a case, by the newest key.
pub fn sign(keys: &Keys, case: &str, until: OffsetDateTime) -> String {
    let key = keys.newest();
    let mut token = Vec::with_capacity(HEAD + case.len() + MAC);
    token.push(VERSION);
    token.extend(key.number.to_be_bytes());
    token.extend(until.unix_timestamp().to_be_bytes());
    token.extend(case.as_bytes());
    let mac = hmac::sign(&key.hmac, &labelled(&token));
    token.extend(mac.as_ref());
    URL_SAFE_NO_PAD.encode(token)
}

/// The case that a token names, if it is good now.
pub fn verify(keys: &Keys, token: &str, now: OffsetDateTime) -> Result<Link, LinkError> {
    if token.len() > (HEAD + LONGEST_CASE + MAC) * 4 / 3 + 4 {
        return Err(LinkError::Unknown);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| LinkError::Unknown)?;
    let end = bytes.len().checked_sub(MAC).filter(|end| *end > HEAD).ok_or(LinkError::Unknown)?;
    let (said, mac) = bytes.split_at(end);
    let (head, case) = said.split_at(HEAD);
    let number = head[1..5].try_into().map(u32::from_be_bytes).map_err(|_| LinkError::Unknown)?;
    let key = keys.find(number).filter(|_| head[0] == VERSION).ok_or(LinkError::Unknown)?;
    hmac::verify(&key.hmac, &labelled(said), mac).map_err(|_| LinkError::Unknown)?;
    let until = head[5..].try_into().map(i64::from_be_bytes).map_err(|_| LinkError::Unknown)?;
    let until = OffsetDateTime::from_unix_timestamp(until).map_err(|_| LinkError::Unknown)?;
    if now >= until {
        return Err(LinkError::Expired { until });
    }
    let case = String::from_utf8(case.to_vec()).map_err(|_| LinkError::Unknown)?;
    Ok(Link { case, until })
}

fn labelled(said: &[u8]) -> Vec<u8> {
    [LABEL, said].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::{Duration, macros::datetime};

    const NOW: OffsetDateTime = datetime!(2026-11-27 12:00 UTC);

    fn keys() -> Keys {
        Keys::fresh(NOW).expect("randomness")
    }

    #[test]
    fn token_says_its_case_until_its_end_and_not_a_second_longer() {
        let keys = keys();
        let until = NOW + Duration::days(60);
        let token = sign(&keys, "c-0123456789ab", until);
        assert!(token.len() < 90, "{token}");
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        let link = Link { case: "c-0123456789ab".to_owned(), until };
        assert_eq!(verify(&keys, &token, until - Duration::SECOND), Ok(link));
        assert_eq!(verify(&keys, &token, until), Err(LinkError::Expired { until }));
    }

    #[test]
    fn no_changed_bit_and_no_other_key_is_believed() {
        let keys = keys();
        let token = sign(&keys, "c-0123456789ab", NOW + Duration::days(1));
        let bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(verify(&keys, &changed, NOW), Err(LinkError::Unknown), "bit {bit}");
        }
        for cut in 0..token.len() {
            assert_eq!(verify(&keys, &token[..cut], NOW), Err(LinkError::Unknown), "cut at {cut}");
        }
        assert_eq!(verify(&self::keys(), &token, NOW), Err(LinkError::Unknown), "of another key");
        assert_eq!(verify(&keys, &"A".repeat(100_000), NOW), Err(LinkError::Unknown));
    }
}
