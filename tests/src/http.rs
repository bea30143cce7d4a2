//! As much HTTP/1.1 as the tests' clients need: one answer, read to its end and not a byte further.

use std::{
    io::{self, Read, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

/// No answer takes this long.
const LIMIT: Duration = Duration::from_secs(60);

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads head and body. A body without a length ends with the connection; of a 101 there is none.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let head = head(from)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| fault(&format!("no status line: {head:?}")))?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Self { status, headers, body: Vec::new() };
        match answer.header("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => {
                answer.body = vec![0; length];
                from.read_exact(&mut answer.body)?;
            }
            Some(Err(error)) => return Err(fault(&error.to_string())),
            None if status == 101 || answer.header("transfer-encoding").is_some() => {}
            None => drop(from.read_to_end(&mut answer.body)?),
        }
        Ok(answer)
    }
}

/// Everything up to the empty line, without it. Read byte by byte, so that what follows stays in the socket.
fn head(from: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::with_capacity(512);
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if from.read(&mut byte)? == 0 {
            let so_far = String::from_utf8_lossy(&head);
            return Err(fault(&format!("closed in the head of an answer, behind {so_far:?}")));
        }
        head.push(byte[0]);
    }
    head.truncate(head.len() - 4);
    String::from_utf8(head).map_err(|error| fault(&error.to_string()))
}

fn fault(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A `GET` on a connection of its own.
pub fn get(address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    exchange(TcpStream::connect(address)?, host, path)
}

/// A `GET` by a client that has this address.
pub fn get_from(client: IpAddr, address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(client, 0).into())?;
    socket.connect(&address.into())?;
    exchange(socket.into(), host, path)
}

/// A `POST` of JSON on a connection of its own.
pub fn post(address: SocketAddr, host: &str, path: &str, content: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{content}",
        content.len()
    )?;
    Answer::read(&mut io::BufReader::new(stream))
}

fn exchange(mut stream: TcpStream, host: &str, path: &str) -> io::Result<Answer> {
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    // The connection is this request's alone, so reading ahead takes nothing from anybody.
    Answer::read(&mut io::BufReader::new(stream))
}
