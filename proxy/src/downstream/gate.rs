//! What stands between a client's bytes and hyper: heads are let through one at a time, whole, and only if they can be read in
//! no two ways.
//!
//! hyper repairs what others may read differently: it takes a bare LF for the end of a line, and of two framings it chooses one.
//! Whoever is in front of weir may choose the other, and then a request hides in another one's content (request smuggling). RFC
//! 9112 lets a server refuse all of it: bare LF (2.2), folded lines (5.2), `Content-Length` with `Transfer-Encoding` (6.1), or
//! more than one of either (6.3). Such a head is not let through: in its place hyper gets a byte that begins no request, and
//! answers 400 in its turn, after the requests before it.
//!
//! The gate knows where a head begins because it follows the content before it. A head whose content it cannot follow, for a
//! coding that is not plainly `chunked`, passes, so that it gets the answer that is its due; so does a head that is too long. But
//! behind them, and behind what is no request, nothing passes ever: whatever hyper makes of it, there is no next request on
//! that connection. While an upgrade is with its origin nothing passes either: the bytes behind it are a tunnel's or the next
//! request's, and which of the two is not known yet.

mod chunks;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::downstream::pace::{Pace, Paced};
use chunks::Chunks;

/// The longest head that is held; hyper answers 431 to what is longer.
const MAX_HEAD: usize = 64 * 1024;
/// Read at a time while a head is waited for.
const READ: usize = 4096;
/// Begins no request.
const NO_REQUEST: u8 = 0;

/// What the next byte of the stream belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    /// Content with this many bytes to come.
    Content(u64),
    Chunks(Chunks),
    /// Nothing that is followed, and so nothing that may pass.
    Lost,
    /// The stream has ended.
    End,
}

/// The gate itself, without IO.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Read, and not passed on.
    held: Vec<u8>,
    /// So many of them belong to a head that may pass.
    cleared: usize,
    /// So many of them have no end of a head.
    searched: usize,
    part: Part,
}

/// The client's chunks are not framed as HTTP has it.
#[derive(Debug, thiserror::Error)]
#[error("the chunks are malformed")]
pub(crate) struct BadChunks;

impl Gate {
    pub fn new() -> Self {
        Self { held: Vec::new(), cleared: 0, searched: 0, part: Part::Head }
    }

    /// Takes bytes of the stream.
    pub fn take(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Takes what there is to read; 0 is the end of the stream.
    fn read(&mut self, io: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut read = [0; READ];
        let mut read = ReadBuf::new(&mut read);
        ready!(Pin::new(io).poll_read(cx, &mut read))?;
        self.take(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// There will be no more: a head that is not complete is hyper's to complain of.
    pub fn end(&mut self) {
        if self.part == Part::Head && self.cleared == 0 {
            self.cleared = self.held.len();
            self.part = Part::End;
        }
    }

    /// Waits for the rest of a head of which it holds a part.
    pub fn is_within_head(&self) -> bool {
        self.part == Part::Head && self.cleared == 0 && !self.held.is_empty()
    }

    /// Passes on what may pass, at most `room` bytes and never more than one head, to `sink`. Nothing passes until more is
    /// taken if it passes nothing.
    pub fn pass(&mut self, room: usize, sink: impl FnOnce(&[u8])) -> Result<usize, BadChunks> {
        let passing = if self.cleared > 0 {
            self.cleared.min(room)
        } else {
            match self.part {
                Part::Head => {
                    self.look_for_head();
                    self.cleared.min(room)
                }
                _ => {
                    let most = self.held.len().min(room);
                    follow(&mut self.part, &self.held[..most])?
                }
            }
        };
        sink(&self.held[..passing]);
        self.held.drain(..passing);
        self.cleared = self.cleared.saturating_sub(passing);
        if self.held.is_empty() {
            // An idle connection keeps no memory for its heads.
            self.held = Vec::new();
        }
        Ok(passing)
    }

    /// Clears the head at the front of `held` if it is complete.
    fn look_for_head(&mut self) {
        let begin = self.held.chunks(2).take_while(|pair| *pair == b"\r\n").count() * 2;
        let mut line = begin;
        let from = self.searched.max(begin);
        // The beginning of the line that `from` is in.
        if from > begin {
            line = self.held[..from]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(begin, |at| at + 1)
                .max(begin);
        }
        for at in from..self.held.len() {
            if self.held[at] != b'\n' {
                continue;
            }
            if at == 0 || self.held[at - 1] != b'\r' {
                return self.refuse();
            }
            if at == line + 1 && line > begin {
                return match judge(&self.held[begin..at - 1]) {
                    Some(part) => {
                        (self.cleared, self.searched, self.part) = (at + 1, 0, part);
                    }
                    None => self.refuse(),
                };
            }
            line = at + 1;
        }
        self.searched = self.held.len();
        if self.held.len() > MAX_HEAD {
            (self.cleared, self.searched, self.part) = (self.held.len(), 0, Part::Lost);
        }
    }

    fn refuse(&mut self) {
        self.held = vec![NO_REQUEST];
        (self.cleared, self.searched, self.part) = (1, 0, Part::Lost);
    }
}

/// How many of `bytes` belong to the part; that one is followed to behind them.
fn follow(part: &mut Part, bytes: &[u8]) -> Result<usize, BadChunks> {
    match part {
        Part::Head | Part::Lost | Part::End => Ok(0),
        Part::Content(left) => {
            let of_content = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
            *left -= of_content as u64;
            if *left == 0 {
                *part = Part::Head;
            }
            Ok(of_content)
        }
        Part::Chunks(chunks) => {
            let of_content = chunks.follow(bytes)?;
            if chunks.is_done() {
                *part = Part::Head;
            }
            Ok(of_content)
        }
    }
}

/// What follows a head, without its empty line; `None` if it may not pass.
fn judge(head: &[u8]) -> Option<Part> {
    let mut length = None;
    let mut coding = None;
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    // Bytes that are no ASCII have no place in a request line, and are read in different ways.
    if lines.next()?.iter().any(|byte| !(b' '..=b'~').contains(byte)) {
        return None;
    }
    for line in lines {
        if line.contains(&b'\r') || line.starts_with(b" ") || line.starts_with(b"\t") {
            return None;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let field = if name.eq_ignore_ascii_case(b"content-length") {
            &mut length
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            &mut coding
        } else {
            continue;
        };
        if field.replace(value).is_some() {
            return None;
        }
    }
    match (length, coding) {
        (None, None) => Some(Part::Head),
        (Some(_), Some(_)) => None,
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Some(Part::Chunks(Chunks::new())),
        (None, Some(_)) => Some(Part::Lost),
        (Some(length), None) if length.iter().all(u8::is_ascii_digit) => {
            match std::str::from_utf8(length).ok()?.parse().ok()? {
                0 => Some(Part::Head),
                length => Some(Part::Content(length)),
            }
        }
        (Some(_), None) => None,
    }
}

/// A client's stream behind the gate.
pub(crate) struct Gated<T> {
    io: Paced<T>,
    gate: Gate,
    pace: Arc<Pace>,
}

impl<T> Gated<T> {
    pub fn new(io: T, pace: Arc<Pace>) -> Self {
        Self { io: Paced::new(io, pace.clone()), gate: Gate::new(), pace }
    }

    /// The stream, and what has been read of it and has not passed.
    pub fn into_inner(self) -> (T, Vec<u8>) {
        (self.io.into_inner(), self.gate.held)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gated<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, gate, pace } = self.get_mut();
        let malformed = |error: BadChunks| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            if pace.is_held() && gate.cleared == 0 {
                if gate.held.is_empty() && ready!(gate.read(io, cx))? == 0 {
                    return Poll::Ready(Ok(()));
                }
                pace.keeps_some();
                return Poll::Pending;
            }
            if gate.pass(buf.remaining(), |bytes| buf.put_slice(bytes)).map_err(malformed)? > 0 {
                return Poll::Ready(Ok(()));
            }
            if gate.is_within_head() {
                pace.head_goes_on();
                pace.keeps_some();
            }
            match gate.part {
                // Straight to hyper, as far as it is known to be content.
                Part::Content(left) => {
                    let most =
                        usize::try_from(left).map_or(buf.remaining(), |left| left.min(buf.remaining()));
                    let mut content = ReadBuf::new(buf.initialize_unfilled_to(most));
                    ready!(Pin::new(io).poll_read(cx, &mut content))?;
                    let passing = follow(&mut gate.part, content.filled()).map_err(malformed)?;
                    buf.advance(passing);
                    return Poll::Ready(Ok(()));
                }
                // hyper has been given what it ends the connection for, and what it has not been given its time limits end.
                Part::Lost => return Poll::Pending,
                Part::End => return Poll::Ready(Ok(())),
                Part::Head | Part::Chunks(_) => {
                    if ready!(gate.read(io, cx))? == 0 {
                        gate.end();
                        if gate.cleared == 0 {
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gated<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What passes of a stream that comes in these pieces, pass by pass.
    fn passed(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut gate = Gate::new();
        let mut passes = Vec::new();
        for piece in pieces {
            gate.take(piece);
            loop {
                let mut pass = Vec::new();
                match gate.pass(usize::MAX, |bytes| pass.extend_from_slice(bytes)) {
                    Ok(0) => break,
                    Ok(_) => passes.push(pass),
                    Err(BadChunks) => {
                        passes.push(b"<bad chunks>".to_vec());
                        return passes;
                    }
                }
            }
        }
        passes
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn heads_pass_whole_and_one_at_a_time() {
        assert_eq!(passed(&[GET, GET]), [GET, GET]);
        assert_eq!(passed(&[&[GET, GET].concat()]), [GET, GET]);
        assert_eq!(passed(&[&GET[..10]]), Vec::<Vec<u8>>::new());
        assert_eq!(passed(&[&GET[..26], &GET[26..]]), [GET]);
        let late = [b"\r\n\r\n", GET].concat();
        assert_eq!(passed(&[&late]), [late], "empty lines before a request");
    }

    #[test]
    fn the_head_behind_content_is_a_head_again() {
        let post = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(passed(&[&[&post[..], b"a\n\nb", GET].concat()]), [&post[..], b"a\n\nb", GET]);
        let head = b"POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n";
        let content = b"3;x=y\r\na\nb\r\n0\r\nT: 1\r\n\r\n";
        assert_eq!(passed(&[&[&head[..], content, GET].concat()]), [&head[..], content, GET]);
        let folded = b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n";
        assert_eq!(passed(&[&[&head[..], content, folded].concat()])[2], [NO_REQUEST]);
    }

    #[test]
    fn what_can_be_read_in_two_ways_does_not_pass() {
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\n A: b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\n\r\n",
            "GET /\t HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: \r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
        ] {
            assert_eq!(passed(&[head.as_bytes()]), [[NO_REQUEST]], "{head:?}");
        }
    }

    #[test]
    fn nothing_passes_behind_content_that_is_not_followed() {
        for coding in [",chunked", "chunked,", "gzip, chunked", "identity", "x", ""] {
            let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: {coding}\r\n\r\n");
            let stream = [head.as_bytes(), b"0\r\n\r\n", GET].concat();
            assert_eq!(passed(&[&stream]), [head.as_bytes()], "{coding:?}");
        }
        let refused = [b"GET / HTTP/1.1\n\r\n\r\n", GET, GET].concat();
        assert_eq!(passed(&[&refused, GET]), [[NO_REQUEST]]);
    }

    #[test]
    fn a_head_without_an_end_is_held_up_to_a_limit() {
        let mut gate = Gate::new();
        gate.take(b"GET / HTTP/1.1\r\nA: ");
        let mut passed = 0;
        while passed == 0 {
            assert!(gate.held.len() <= MAX_HEAD + READ);
            gate.take(&[b'a'; READ]);
            passed = gate.pass(usize::MAX, |_| ()).expect("no chunks");
        }
        assert!(passed > MAX_HEAD && gate.held.is_empty());
        gate.take(b"\r\n\r\n");
        gate.take(GET);
        assert_eq!(gate.pass(usize::MAX, |_| ()).expect("no chunks"), 0, "nor what would complete it");
    }

    /// Bytes that are a request more often than chance would have it.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let words = vec![
            "GET / HTTP/1.1\r\n",
            "POST /x HTTP/1.0\r\n",
            "\r\n",
            "\n",
            "\r",
            "Host: a\r\n",
            "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
            " ",
            "3\r\nabc\r\n",
            "0\r\n",
            "abc",
            ";x",
            ":",
            "\0",
            "ff\r\n",
        ];
        let word = prop_oneof![
            9 => prop::sample::select(words).prop_map(|word| word.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn how_a_stream_is_cut_into_reads_changes_nothing(stream in stream(), cuts in prop::collection::vec(1usize..9, 0..64)) {
            let mut pieces = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            let cut = passed(&pieces).concat();
            let whole = passed(&[&stream]).concat();
            // A fault is seen with the byte that makes it; what passed before may differ by what had come by then.
            let bad = b"<bad chunks>";
            if whole.ends_with(bad) || cut.ends_with(bad) {
                prop_assert_eq!(whole.ends_with(bad), cut.ends_with(bad));
            } else {
                let refused = whole.contains(&NO_REQUEST);
                prop_assert!(refused || whole == cut, "{:?} {:?}", whole, cut);
                prop_assert_eq!(refused, cut.contains(&NO_REQUEST));
            }
        }
    }
}
