use std::{io, pin::Pin, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::tunnel::scratch::SIZE;

const PATIENCE: Duration = Duration::from_secs(20);

type Ends = (DuplexStream, DuplexStream);

/// A tunnel between two pipes that hold `pipe` bytes a direction; the outer ends are the client's and the origin's.
fn tunnel(pipe: usize) -> (Tunnel<DuplexStream, DuplexStream>, Ends) {
    let (client, downstream) = duplex(pipe);
    let (origin, upstream) = duplex(pipe);
    (Tunnel::new(downstream, Bytes::new(), upstream, Bytes::new()), (client, origin))
}

/// Polls until nothing moves any more.
fn settle<D, U>(tunnel: &mut Tunnel<D, U>) -> Poll<Result<(), TunnelError>>
where
    Tunnel<D, U>: Future<Output = Result<(), TunnelError>> + Unpin,
{
    for _ in 0..10_000 {
        let before = tunnel.moved();
        let poll = Pin::new(&mut *tunnel).poll(&mut Context::from_waker(std::task::Waker::noop()));
        if poll.is_ready() || tunnel.moved() == before {
            return poll;
        }
    }
    panic!("it does not settle");
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed).collect()
}

#[tokio::test]
async fn a_half_close_is_passed_on_and_the_other_direction_lives() {
    let (tunnel, (mut client, mut origin)) = tunnel(1024);
    let task = tokio::spawn(tunnel);
    client.write_all(b"question").await.expect("written");
    client.shutdown().await.expect("closed");
    let mut question = String::new();
    origin.read_to_string(&mut question).await.expect("read to the end");
    assert_eq!(question, "question");
    assert!(!task.is_finished());

    origin.write_all(b"answer").await.expect("written");
    origin.shutdown().await.expect("closed");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("read to the end");
    assert_eq!(answer, "answer");
    task.await.expect("joined").expect("a clean end");
}

#[tokio::test]
async fn bytes_that_came_with_the_handshakes_go_first() {
    let (mut client, downstream) = duplex(16);
    let (mut origin, upstream) = duplex(16);
    let first_up = Bytes::from_static(b"early from the client, longer than the pipe; ");
    let first_down = Bytes::from_static(b"early from the origin, longer than the pipe; ");
    tokio::spawn(Tunnel::new(downstream, first_up.clone(), upstream, first_down.clone()));
    let (mut up, mut down) = (vec![0; first_up.len() + 5], vec![0; first_down.len() + 5]);
    client.write_all(b"later").await.expect("written");
    origin.write_all(b"later").await.expect("written");
    origin.read_exact(&mut up).await.expect("read");
    client.read_exact(&mut down).await.expect("read");
    assert_eq!(up, [&first_up[..], b"later"].concat());
    assert_eq!(down, [&first_down[..], b"later"].concat());
}

#[test]
fn a_reader_that_stalls_bounds_what_a_sender_can_push() {
    const PIPE: usize = 4096;
    let (mut tunnel, (mut client, _origin)) = tunnel(PIPE);
    let chunk = [7; 1024];
    let mut pushed = 0;
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for _ in 0..1000 {
        while let Poll::Ready(written) = Pin::new(&mut client).poll_write(&mut cx, &chunk) {
            pushed += written.expect("open");
        }
        assert!(settle(&mut tunnel).is_pending());
    }
    let held = tunnel.held().0;
    assert!(held > 0 && held <= SIZE, "{held}");
    assert_eq!(pushed, PIPE + held + PIPE, "two pipes and what the tunnel holds");
}

#[test]
fn an_idle_tunnel_holds_nothing() {
    let (mut tunnel, (mut client, mut origin)) = tunnel(1024);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for _ in 0..3 {
        assert!(Pin::new(&mut client).poll_write(&mut cx, &[1; 1024]).is_ready());
        assert!(settle(&mut tunnel).is_pending());
    }
    assert_ne!(tunnel.held().0, 0);
    let mut taken = 0;
    while taken < 3 * 1024 {
        let mut buffer = [0; 1024];
        let mut buffer = tokio::io::ReadBuf::new(&mut buffer);
        assert!(Pin::new(&mut origin).poll_read(&mut cx, &mut buffer).is_ready());
        taken += buffer.filled().len();
        assert!(settle(&mut tunnel).is_pending());
    }
    assert_eq!(tunnel.held(), (0, 0));
}

/// A side that always has more to give and takes everything.
struct Endless {
    given: u64,
    taken: u64,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.given += buf.remaining() as u64;
        let all = buf.capacity();
        buf.initialize_unfilled();
        buf.set_filled(all);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.taken += buf.len() as u64;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_bulk_transfer_yields_and_leaves_the_other_direction_its_turns() {
    let endless = || Endless { given: 0, taken: 0 };
    let mut tunnel = Tunnel::new(endless(), Bytes::new(), endless(), Bytes::new());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for polls in 1..=3 {
        assert!(Pin::new(&mut tunnel).poll(&mut cx).is_pending(), "it yields although there is more");
        let (up, down) = tunnel.moved();
        assert_eq!(up, down, "both directions get the same");
        assert_eq!(up, polls * (STEPS * SIZE) as u64);
    }
}

/// A side that fails as told.
struct Broken {
    read: Option<io::ErrorKind>,
    write: Option<io::ErrorKind>,
}

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.read.map_or(Poll::Pending, |kind| Poll::Ready(Err(kind.into())))
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write.map_or(Ok(buf.len()), |kind| Err(kind.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn an_error_names_the_side_that_failed() {
    let reset = Some(io::ErrorKind::ConnectionReset);
    for (read, write, from_client) in [(reset, None, &b""[..]), (None, reset, b"x")] {
        let (_client, downstream) = duplex(16);
        let mut tunnel = Tunnel::new(
            downstream,
            Bytes::copy_from_slice(from_client),
            Broken { read, write },
            Bytes::new(),
        );
        let Poll::Ready(Err(error)) = settle(&mut tunnel) else { panic!("no error") };
        assert_eq!(error.side, Side::Upstream);

        let (_origin, upstream) = duplex(16);
        let mut tunnel =
            Tunnel::new(Broken { read, write }, Bytes::new(), upstream, Bytes::copy_from_slice(from_client));
        let Poll::Ready(Err(error)) = settle(&mut tunnel) else { panic!("no error") };
        assert_eq!(error.side, Side::Downstream);
    }
}

#[tokio::test]
async fn tls_that_ends_without_close_notify_ends_a_direction() {
    let (mut client, downstream) = duplex(16);
    let eof = Broken { read: Some(io::ErrorKind::UnexpectedEof), write: None };
    let task = tokio::spawn(Tunnel::new(downstream, Bytes::new(), eof, Bytes::new()));
    assert_eq!(client.read(&mut [0; 1]).await.expect("a clean end"), 0);
    drop(client);
    task.await.expect("joined").expect("a clean end");
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("connected"), far.expect("accepted").0)
}

#[tokio::test]
async fn a_large_transfer_both_ways_at_once_arrives_whole() {
    const LEN: usize = 16 << 20;
    let (client, downstream) = pair().await;
    let (origin, upstream) = pair().await;
    let task = tokio::spawn(Tunnel::new(downstream, Bytes::new(), upstream, Bytes::new()));
    let exchange = |stream: TcpStream, send: u8, expect: u8| async move {
        let (mut read, mut write) = stream.into_split();
        let sent = tokio::spawn(async move {
            write.write_all(&pattern(LEN, send)).await.expect("written");
            write.shutdown().await.expect("closed");
        });
        let mut got = Vec::with_capacity(LEN);
        read.read_to_end(&mut got).await.expect("read");
        assert!(got == pattern(LEN, expect), "{} bytes of another kind", got.len());
        sent.await.expect("sent");
    };
    let both = async { tokio::join!(exchange(client, 1, 2), exchange(origin, 2, 1)) };
    timeout(PATIENCE, both).await.expect("it hangs");
    task.await.expect("joined").expect("a clean end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the sizes of writes, reads and pipes: the same bytes in the same order, both ways.
    #[test]
    fn every_chunking_is_byte_exact(
        pipe in 1usize..5000,
        up in prop::collection::vec(1usize..3000, 0..20),
        down in prop::collection::vec(1usize..3000, 0..20),
        early in 0usize..100,
        read in 1usize..4000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (client, downstream) = duplex(pipe);
            let (origin, upstream) = duplex(pipe);
            let early = Bytes::from(pattern(early, 9));
            let task = tokio::spawn(Tunnel::new(downstream, early.clone(), upstream, Bytes::new()));
            let exchange = |stream: DuplexStream, chunks: Vec<usize>, seed: u8| async move {
                let (mut reader, mut writer) = tokio::io::split(stream);
                let send = async {
                    let mut sent = Vec::new();
                    for chunk in chunks {
                        let bytes = pattern(chunk, seed);
                        writer.write_all(&bytes).await.expect("written");
                        sent.extend(bytes);
                    }
                    writer.shutdown().await.expect("closed");
                    sent
                };
                let receive = async {
                    let (mut got, mut buffer) = (Vec::new(), vec![0; read]);
                    loop {
                        match reader.read(&mut buffer).await.expect("read") {
                            0 => return got,
                            len => got.extend_from_slice(&buffer[..len]),
                        }
                    }
                };
                tokio::join!(send, receive)
            };
            let both = async { tokio::join!(exchange(client, up, 1), exchange(origin, down, 2)) };
            let ((sent_up, got_down), (sent_down, got_up)) = timeout(PATIENCE, both).await.expect("it hangs");
            assert_eq!(got_up, [&early[..], &sent_up].concat());
            assert_eq!(got_down, sent_down);
            task.await.expect("joined").expect("a clean end");
        });
    }
}

#[test]
fn a_tunnel_does_not_keep_the_buffers_of_its_handshakes() {
    struct Buffer {
        _alive: std::sync::Arc<()>,
    }
    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &[0; 8192]
        }
    }
    let alive = std::sync::Arc::new(());
    for len in [0, 5] {
        let buffer = || Bytes::from_owner(Buffer { _alive: alive.clone() }).slice(100..100 + len);
        let (_client, downstream) = duplex(16);
        let (_origin, upstream) = duplex(16);
        let tunnel = Tunnel::new(downstream, buffer(), upstream, buffer());
        assert_eq!(tunnel.held(), (len, len));
        assert_eq!(std::sync::Arc::strong_count(&alive), 1, "{len}");
    }
}

#[test]
fn the_task_of_an_idle_tunnel_is_small() {
    use crate::{
        downstream::stream::{NamedStream, Socket},
        tunnel::task::Task,
    };
    let bytes = std::mem::size_of::<Task<NamedStream, Socket>>();
    assert!(bytes <= 320, "{bytes} bytes");
}
