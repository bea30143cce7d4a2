//! What the tests start beside `weir`.
//!
//! - `become PROGRAM ARG...`: ties itself to the life of the thread that started it, and becomes the program.
//! - `storm ADDRESS ZONE THREADS`: clients that fight for a zone's places; see [`weir_tests::storm`].
//! - `hold ADDRESS HOST COUNT`: opens WebSockets, says so, and holds them until its standard input ends.
//! - `origin ADDRESS MANNER`: an origin of that [`weir_tests::origin::Manner`].
//! - `knock UID SOCKET`: becomes another user, asks an agent's socket for a page and for an act; prints how it was answered.
//! - `crowd UID SOCKET COUNT`: becomes another user, connects so often to an agent's socket and says nothing; prints `there`, and
//!   `let go` when all of its connections were ended.
//! - `tag UID ADDRESS ZONE`: listens, accepts, becomes another user and tries every operation; prints the errnos.
#![forbid(unsafe_code)]

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead as _, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::Path,
    process::Command,
};

use nix::{
    errno::Errno,
    sys::{prctl, signal::Signal},
    unistd::{Uid, setuid},
};
use weir_common::ABI_VERSION;
use weir_tests::{
    hand,
    origin::{self, Manner},
    sockopt, storm, websocket,
};

fn main() {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let words: Vec<&str> = args.iter().map(|arg| arg.to_str().expect("an argument in UTF-8")).collect();
    match words.as_slice() {
        ["become", program, rest @ ..] => become_program(program, rest),
        ["storm", address, zone, threads] => {
            storm::obey(parse(address), zone, threads.parse().expect("a number of threads"));
        }
        ["hold", address, host, count] => hold(parse(address), host, count.parse().expect("a count")),
        ["origin", address, manner] => serve(parse(address), manner),
        ["knock", uid, socket] => knock(uid.parse().expect("a uid"), socket.as_ref()),
        ["crowd", uid, socket, count] => {
            crowd(uid.parse().expect("a uid"), socket.as_ref(), count.parse().expect("a count"));
        }
        ["tag", uid, address, zone] => tag(uid.parse().expect("a uid"), parse(address), zone),
        other => panic!("no such job: {other:?}"),
    }
}

fn parse(address: &str) -> SocketAddr {
    address.parse().unwrap_or_else(|error| panic!("{address}: {error}"))
}

fn become_program(program: &str, args: &[&str]) {
    prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal at the parent's death");
    let error = Command::new(program).args(args).exec();
    panic!("{program} does not start: {error}");
}

fn hold(address: SocketAddr, host: &str, count: usize) {
    let held = websocket::connect_many(address, count, |_| host.to_owned());
    println!("holding {}", held.len());
    io::stdin().lock().lines().for_each(drop);
}

fn serve(address: SocketAddr, manner: &str) {
    let manner = Manner::named(manner).unwrap_or_else(|| panic!("no such manner: {manner}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = origin::listen(address);
        println!("listening");
        origin::accept(listener, manner).await;
    });
}

fn knock(uid: u32, socket: &Path) {
    setuid(Uid::from_raw(uid)).expect("another user");
    let act = r#"{"act":"kill","zone":"a.test","dry_run":true}"#;
    let answers = [hand::ask(socket, "/api/acts", None), hand::ask(socket, "/api/acts", Some(act))];
    let words = answers.map(|answer| match answer {
        Ok(answer) => answer.status.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    });
    println!("{}", words.join(" "));
    io::stdin().lock().lines().for_each(drop);
}

fn crowd(uid: u32, socket: &Path, count: usize) {
    setuid(Uid::from_raw(uid)).expect("another user");
    let there: Vec<UnixStream> =
        (0..count).map(|_| UnixStream::connect(socket).expect("a connection")).collect();
    println!("there");
    for mut stream in there {
        // However it ends.
        let _ = stream.read(&mut [0]);
    }
    println!("let go");
    io::stdin().lock().lines().for_each(drop);
}

fn tag(uid: u32, address: SocketAddr, zone: &str) {
    let listener = TcpListener::bind(address).expect("a listener");
    let _client = TcpStream::connect(address).expect("a connection");
    let (accepted, _) = listener.accept().expect("an accepted connection");
    setuid(Uid::from_raw(uid)).expect("another user");
    let results = [
        sockopt::probe(&accepted, ABI_VERSION.into()),
        sockopt::attribute(&accepted, zone),
        sockopt::admit(&accepted, zone),
        sockopt::release(&accepted, zone),
    ];
    let errnos: Vec<i32> =
        results.iter().map(|result| result.err().unwrap_or(Errno::UnknownErrno) as i32).collect();
    println!("{}", serde_json::json!(errnos));
    io::stdin().lock().lines().for_each(drop);
}
