//! Where chunked content ends (RFC 9112, 7.1), for the [`Gate`](super::Gate): hyper decodes it. Every line of it ends with CRLF,
//! and a size is hexadecimal digits and nothing else; what is not so could be read in two ways, and is an error.

use super::BadChunks;

/// A place in chunked content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Of a chunk's size so far, and whether it has a digit.
    Size(u64, bool),
    /// Behind the size, up to the CR.
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// The beginning of a line of trailers.
    Trailer,
    TrailerRest,
    TrailerLf,
    /// The LF of the last, empty line.
    LastLf,
    Done,
}

impl Chunks {
    pub fn new() -> Self {
        Self::Size(0, false)
    }

    pub fn is_done(self) -> bool {
        self == Self::Done
    }

    /// How many of `bytes` belong to the content.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<usize, BadChunks> {
        let mut at = 0;
        while at < bytes.len() && *self != Self::Done {
            if let Self::Data(left) = self {
                let data = usize::try_from(*left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                at += data;
                *left -= data as u64;
                if *left == 0 {
                    *self = Self::DataCr;
                }
                continue;
            }
            *self = self.next(bytes[at]).ok_or(BadChunks)?;
            at += 1;
        }
        Ok(at)
    }

    fn next(self, byte: u8) -> Option<Self> {
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        Some(match (self, byte) {
            (Self::Size(size, _), digit) if digit.is_ascii_hexdigit() => {
                let digit = u64::from((digit as char).to_digit(16)?);
                Self::Size(size.checked_mul(16)?.checked_add(digit)?, true)
            }
            (Self::Size(size, true) | Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Size(size, true), b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Extension(size), _) if is_text => Self::Extension(size),
            (Self::SizeLf(0), b'\n') => Self::Trailer,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::new(),
            (Self::Trailer, b'\r') => Self::LastLf,
            (Self::LastLf, b'\n') => Self::Done,
            (Self::Trailer, b' ' | b'\t') => return None,
            (Self::TrailerRest, b'\r') => Self::TrailerLf,
            (Self::TrailerLf, b'\n') => Self::Trailer,
            (Self::Trailer | Self::TrailerRest, _) if is_text => Self::TrailerRest,
            _ => return None,
        })
    }
}
