//! `weir zones` against a server that answers as the agent does.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Output,
    thread::{self, JoinHandle},
};

use crate::support::{Folder, configuration, free_port, output, stderr, stdout};

/// Answers one request with `status` and `body`. Joined, it gives the request's first line.
fn server(status: &'static str, body: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let answer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        lines.find(|line| line.as_ref().unwrap().is_empty());
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        first
    });
    (address, answer)
}

fn zones(address: SocketAddr, more: &[&str]) -> Output {
    let admin = format!("http://{address}");
    output(&[&["zones", "--admin", &admin], more].concat())
}

const REPLY: &str = r#"{"instance":"default","zones":[
{"zone":"quiet.example","plan":"free","state":"configured","websockets":3,"websockets_peak_recent":4,
 "websockets_peak":9,"sockets":3,"guideline":20,"abuse_cap":200,"guideline_ratio":0.15,"slot":1,"admitted_total":9,
 "refused_total":0,"refused":{},"closed":{},"received_bytes_total":0,"sent_bytes_total":0},
{"zone":"busy.example","plan":"pro","state":"configured","websockets":1000,"websockets_peak_recent":1000,
 "websockets_peak":1000,"sockets":1001,"guideline":100,"abuse_cap":1000,"guideline_ratio":10.0,"slot":2,
 "admitted_total":4000,"refused_total":77,"refused":{"abuse_cap":77},"closed":{"peer":3000},
 "received_bytes_total":1,"sent_bytes_total":2}],"unattributed_sockets":1}"#;

#[test]
fn zones_are_a_table_by_live_websockets() {
    let (address, answer) = server("200 OK", REPLY);
    let output = zones(address, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(answer.join().unwrap(), "GET /api/zones HTTP/1.1");
    let expected = "\
zone           plan  live  peak     guideline   cap  refused
busy.example   pro   1000  1000  1000% of 100  1000       77
quiet.example  free     3     4     15% of 20   200        0
2 zones, 1003 live WebSockets; 1 socket of no zone (yet)
";
    assert_eq!(stdout(&output), expected);
}

#[test]
fn json_is_the_agents_own_reply() {
    let (address, answer) = server("200 OK", REPLY);
    let output = zones(address, &["--json"]);
    assert_eq!(stdout(&output), format!("{REPLY}\n"));
    answer.join().unwrap();
}

#[test]
fn a_search_is_the_agents_to_do() {
    let (address, answer) = server("200 OK", r#"{"instance":"default","zones":[],"unattributed_sockets":0}"#);
    let output = zones(address, &["--search", "shop & co"]);
    assert_eq!(answer.join().unwrap(), "GET /api/zones?search=shop%20%26%20co HTTP/1.1");
    assert_eq!(stdout(&output), "0 zones, 0 live WebSockets; 0 sockets of no zone (yet)\n");
}

#[test]
fn the_address_may_come_from_the_configuration() {
    let (address, answer) = server("200 OK", REPLY);
    let folder = Folder::new(&configuration(free_port(), address.port(), ""));
    let output = output(&["zones", "--config", &folder.config()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    answer.join().unwrap();
}

#[test]
fn without_an_agent_it_says_what_to_do() {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let output = zones(nobody, &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.starts_with(&format!("weir: no weir agent answers on http://{nobody}")), "{text}");
    assert!(text.contains("start `weir agent`") && text.lines().count() == 1, "{text}");
}

#[test]
fn a_server_that_is_no_agent_is_recognised() {
    let (address, answer) = server("404 Not Found", "no");
    let output = zones(address, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("404 Not Found: is it a weir agent?"), "{}", stderr(&output));
    answer.join().unwrap();

    let (address, answer) = server("200 OK", "{}");
    let output = zones(address, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("does not answer as a weir agent"), "{}", stderr(&output));
    answer.join().unwrap();
}
