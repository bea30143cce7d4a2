//! One client of the crowd: a WebSocket through the proxy, by ws or wss, that says something now and then.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::StatusCode;
use rustls::ClientConfig;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, interval_at, timeout},
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

/// How the proxy is reached.
pub struct Way {
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// Trusts the demo's certificate and nothing else.
    pub tls: Arc<ClientConfig>,
}

/// What became of a client, told once it is known.
#[derive(Debug)]
pub enum News {
    /// The upgrade was answered 101.
    Opened,
    /// It was answered 503.
    Refused,
    /// It came to nothing, or the tunnel does not carry what it should.
    Failed(String),
    /// The WebSocket has ended.
    Closed,
}

/// Longest time for an upgrade.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest time for a closing handshake.
const FAREWELL: Duration = Duration::from_secs(10);

/// Small buffers: a thousand clients live in this process. Every message is written at once.
pub fn small() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0)
}

/// Opens a WebSocket and keeps it until `leave`. The last news is `Closed`, if there was `Opened`.
pub async fn visit(
    way: Arc<Way>,
    zone: &'static str,
    tls: bool,
    id: u64,
    leave: oneshot::Receiver<()>,
    news: mpsc::UnboundedSender<(u64, News)>,
) {
    // Nobody listens any more when the crowd is gone.
    let tell = |what| drop(news.send((id, what)));
    match timeout(PATIENCE, open(&way, zone, tls)).await {
        Ok(Ok(stream)) => {
            tell(News::Opened);
            if let Err(error) = stay(stream, id, leave).await {
                tell(News::Failed(error));
            }
            tell(News::Closed);
        }
        Ok(Err(Error::Http(response))) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
            tell(News::Refused);
            match reason(response.body().as_deref().unwrap_or_default()) {
                Some(reason) if CAPS.contains(&reason.as_str()) => {}
                reason => {
                    let reason = reason.as_deref().unwrap_or("no reason");
                    tell(News::Failed(format!("an upgrade was answered 503 with {reason}")));
                }
            }
        }
        Ok(Err(Error::Http(response))) => {
            tell(News::Failed(format!("an upgrade was answered {}", response.status())))
        }
        Ok(Err(error)) => tell(News::Failed(format!("no upgrade: {error}"))),
        Err(_) => tell(News::Failed(format!("no answer to an upgrade within {} s", PATIENCE.as_secs()))),
    }
}

/// Why a 503 is what a zone above its cap gets.
const CAPS: [&str; 3] = ["abuse_cap", "socket_cap", "limit"];

/// What weir gives as the reason (problem+json).
fn reason(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Problem {
        reason: String,
    }
    serde_json::from_slice(body).ok().map(|Problem { reason }| reason)
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(way: &Way, zone: &str, tls: bool) -> Result<Stream, Error> {
    let (scheme, address) = if tls { ("wss", way.https) } else { ("ws", way.http) };
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let connector = if tls { Connector::Rustls(way.tls.clone()) } else { Connector::Plain };
    let url = format!("{scheme}://{zone}:{}/", address.port());
    let (stream, _) = client_async_tls_with_config(url, stream, Some(small()), Some(connector)).await?;
    Ok(stream)
}

/// Talks until it is to leave. An error is a tunnel that broke, or an echo that is none.
async fn stay(mut stream: Stream, id: u64, mut leave: oneshot::Receiver<()>) -> Result<(), String> {
    // Spread out, so that a thousand clients do not speak at once: 3 to 8 seconds.
    let every = Duration::from_millis(3000 + id * 373 % 5000);
    let mut words = interval_at(Instant::now() + every, every);
    let (mut said, mut heard) = (0_u64, 0_u64);
    loop {
        tokio::select! {
            // Also when the crowd is gone.
            _ = &mut leave => break,
            _ = words.tick() => {
                said += 1;
                let word = Message::text(format!("{id}:{said}"));
                stream.send(word).await.map_err(|error| format!("a tunnel broke: {error}"))?;
            }
            message = stream.next() => match message {
                Some(Ok(Message::Text(echo))) => {
                    heard += 1;
                    if echo.as_str() != format!("{id}:{heard}") {
                        return Err(format!("an echo came back as {:?}", echo.as_str()));
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(format!("a tunnel broke: {error}")),
                None => return Err("a tunnel ended".to_owned()),
            },
        }
    }
    // The other side answers, then the connection ends.
    let farewell = async {
        stream.close(None).await?;
        while stream.next().await.transpose()?.is_some() {}
        Ok::<_, Error>(())
    };
    match timeout(FAREWELL, farewell).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("a closing handshake failed: {error}")),
        Err(_) => Err("a closing handshake was not answered".to_owned()),
    }
}
