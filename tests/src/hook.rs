//! A webhook's receiver: takes every event, and tells it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::Value;

/// Nobody takes so long to say something.
const LIMIT: Duration = Duration::from_secs(30);

/// Listens in the calling thread's namespace; each event as it came. An event is told before its sender has an answer.
pub fn listen(address: SocketAddr) -> Receiver<Value> {
    let listener = TcpListener::bind(address).expect("a port");
    let (sender, events) = channel();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            if let Some(event) = read(&mut stream) {
                let _ = sender.send(event);
            }
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    });
    events
}

/// The content of a request, if it is JSON.
fn read(stream: &mut TcpStream) -> Option<Value> {
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => seen.extend_from_slice(&chunk[..read]),
        }
        let text = String::from_utf8_lossy(&seen);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
        if let Some(event) = body.and_then(|body| serde_json::from_str(body).ok()) {
            return Some(event);
        }
    }
}
