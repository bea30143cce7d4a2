//! Listening sockets that go from a running proxy to the next one, so that at no moment nobody listens.
//!
//! `SO_REUSEPORT` alone does not do it: a socket that is closed takes with it the connections that the kernel has completed for it
//! and nobody has accepted (unless `net.ipv4.tcp_migrate_req` is on). Here both processes hold the same socket, and with it the
//! same queue, until the old one lets go.
//!
//! Over a Unix socket at `proxy.takeover` the old one sends, in one message, a line for each socket and the sockets themselves
//! (`SCM_RIGHTS`), this Unix socket among them, so that its path is never without an owner. The new one takes those whose kind and
//! address it is configured for, serves, and says [`SERVING`]; only then does the old one stop accepting and drain. If the
//! new one ends before that, nothing has happened. Only root and the proxy's own user are answered.

use std::{
    fs, io,
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener as StdListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, PermissionsExt, chown},
            net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{User, geteuid};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncReadExt, Interest},
    net::{UnixListener, UnixStream},
    sync::watch,
    time::timeout,
};
use tracing::{info, warn};

/// The first line of what is sent. Another version is another line.
const GREETING: &str = "weir-listeners 1";
/// What the new one says when it serves.
const SERVING: &[u8] = b"serving\n";
/// The label of the Unix socket itself.
const DOOR: &str = "takeover";
/// The kind of the admin address.
pub(crate) const ADMIN: &str = "admin";
/// Sockets in one message: the kernel's own limit.
const MOST: usize = 253;
/// The longest list. Bytes.
const LONGEST: usize = 64 * 1024;
/// How long the old one may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long the new one may take from the sockets to serving.
const START_TIME: Duration = Duration::from_secs(60);

/// The listening sockets cannot be taken over, or not be offered.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    #[error(
        "the proxy that answers on {} does not hand over its sockets: {source} (start the new one as root or as the user of \
         the old one, or end the old one first)",
        path.display()
    )]
    Refused { path: PathBuf, source: io::Error },
    #[error("cannot listen on {} (`takeover` of [proxy]): {source} (its folder has to exist, and be writable)", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("{} (`takeover` of [proxy]) is there and no socket: name another path, or remove it", path.display())]
    NoSocket { path: PathBuf },
}

/// A socket and what it is for, as it is written in the list.
pub(crate) type Labelled = (String, OwnedFd);

/// What a new proxy has got, and the Unix socket by which it will be followed itself.
#[derive(Debug)]
pub(crate) struct Takeover {
    path: PathBuf,
    door: StdUnixListener,
    /// The old one, which waits to hear that we serve.
    before: Option<StdUnixStream>,
    sockets: Vec<Labelled>,
}

/// The label of a listening socket.
pub(crate) fn label(kind: &str, address: SocketAddr) -> String {
    format!("{kind} {address}")
}

impl Takeover {
    /// Asks the proxy that runs, if one does, for its sockets. Blocks for [`ANSWER_TIME`] at most.
    pub fn begin(path: &Path, user: &str) -> Result<Self, TakeoverError> {
        let asked = StdUnixStream::connect(path).map(|stream| (receive(&stream), stream));
        match asked {
            // It ended in the very moment.
            Ok((Err(_), _)) if StdUnixStream::connect(path).is_err() => Self::first(path, user),
            Ok((received, stream)) => {
                let refused = |source| TakeoverError::Refused { path: path.to_owned(), source };
                let mut sockets = received.map_err(refused)?;
                let door = sockets.iter().position(|(label, _)| label == DOOR);
                let door = door.map(|door| sockets.swap_remove(door).1);
                let door = door.ok_or_else(|| refused(io::ErrorKind::InvalidData.into()))?;
                info!(sockets = sockets.len(), "taking over from the proxy that runs");
                Ok(Self { path: path.to_owned(), door: door.into(), before: Some(stream), sockets })
            }
            Err(_) => Self::first(path, user),
        }
    }

    fn first(path: &Path, user: &str) -> Result<Self, TakeoverError> {
        Ok(Self { path: path.to_owned(), door: listen(path, user)?, before: None, sockets: Vec::new() })
    }

    /// The socket of the old one that listens there, if it had one.
    pub fn take(&mut self, kind: &str, address: SocketAddr) -> Option<StdListener> {
        let wanted = label(kind, address);
        let found = self.sockets.iter().position(|(label, _)| *label == wanted)?;
        let socket = StdListener::from(self.sockets.swap_remove(found).1);
        socket.local_addr().is_ok_and(|local| local == address).then_some(socket)
    }

    /// Lets go of what is not configured any more: a socket that anybody holds still gets connections.
    pub fn release_rest(&mut self) {
        for (label, _) in self.sockets.drain(..) {
            info!(socket = label, "not taken over: it is not configured any more");
        }
    }

    /// Tells the old one that we serve, and offers `sockets` to whoever comes next.
    pub fn serve(self, sockets: Vec<Labelled>) -> io::Result<Offer> {
        if let Some(mut before) = self.before {
            // An old one that has gone needs no telling.
            let _ = before.write_all(SERVING);
        }
        self.door.set_nonblocking(true)?;
        let mut all = vec![(DOOR.to_owned(), self.door.as_fd().try_clone_to_owned()?)];
        all.extend(sockets);
        if all.len() > MOST {
            warn!(sockets = all.len(), "more listening sockets than can be handed over at once ({MOST})");
            all.truncate(MOST);
        }
        Ok(Offer { path: self.path, door: UnixListener::from_std(self.door)?, sockets: all })
    }
}

fn listen(path: &Path, user: &str) -> Result<StdUnixListener, TakeoverError> {
    let cannot = |source| TakeoverError::Listen { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        // Nobody answered: one that was killed left it.
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path).map_err(cannot)?,
        Ok(_) => return Err(TakeoverError::NoSocket { path: path.to_owned() }),
        Err(_) => {}
    }
    let door = StdUnixListener::bind(path).map_err(cannot)?;
    // Whoever gets in before is asked who he is all the same.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    if geteuid().is_root()
        && let Ok(Some(user)) = User::from_name(user)
    {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).map_err(cannot)?;
    }
    Ok(door)
}

fn receive(stream: &StdUnixStream) -> io::Result<Vec<Labelled>> {
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    text.truncate(got.bytes);
    // The list may come in parts, the sockets come with the first.
    while !text.ends_with(b"\n\n") {
        let mut more = [0; 4096];
        match (&mut &*stream).read(&mut more)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read if text.len() + read > LONGEST => return Err(io::ErrorKind::InvalidData.into()),
            read => text.extend_from_slice(&more[..read]),
        }
    }
    let text = String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut lines = text.trim_end().lines();
    if lines.next() != Some(GREETING) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is of another version"));
    }
    let labels: Vec<String> = lines.map(str::to_owned).collect();
    if labels.len() != sockets.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(labels.into_iter().zip(sockets).collect())
}

/// The sockets of a proxy that serves, for the next one.
#[derive(Debug)]
pub(crate) struct Offer {
    path: PathBuf,
    door: UnixListener,
    sockets: Vec<Labelled>,
}

impl Offer {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers whoever asks; sets `replaced` and ends when another one serves. Dropped, it lets go of all sockets.
    pub async fn run(self, replaced: watch::Sender<bool>) {
        loop {
            let asked = match self.door.accept().await {
                Ok((stream, _)) => self.answer(stream).await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(()) => {
                    replaced.send_replace(true);
                    return;
                }
                Err(error) => {
                    warn!(%error, "the sockets were not taken over: serving on");
                    // For want of descriptors, `accept` would fail again at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        let uid = stream.peer_cred()?.uid();
        if uid != 0 && uid != geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("uid {uid} asks for them")));
        }
        timeout(ANSWER_TIME, self.send(&stream)).await??;
        let mut said = [0; SERVING.len()];
        timeout(START_TIME, stream.read_exact(&mut said)).await??;
        if said != SERVING {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    async fn send(&self, stream: &UnixStream) -> io::Result<()> {
        let labels: Vec<&str> = self.sockets.iter().map(|(label, _)| label.as_str()).collect();
        let text = format!("{GREETING}\n{}\n\n", labels.join("\n"));
        let sockets: Vec<_> = self.sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                ancillary.push(SendAncillaryMessage::ScmRights(&sockets));
                Ok(sendmsg(stream, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?)
            })
            .await?;
        // Far below what the buffer of a Unix socket takes at once.
        if sent == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}
