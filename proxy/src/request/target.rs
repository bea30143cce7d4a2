//! Which host a request is for: the Host header, and an absolute request target that has to agree with it (RFC 9112, 3.2).
//!
//! A request that is ambiguous here could be read differently by the origin, so it is refused rather than repaired.

use http::{
    HeaderValue, Request, Uri,
    header::HOST,
    uri::{Authority, PathAndQuery},
};
use weir_config::normalise_host;

use crate::request::{forwarded::Scheme, reason::Reason};

/// A request's host, as it was sent and in the form in which zones are looked up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The Host header, unchanged: what the origin gets.
    pub header: HeaderValue,
    pub host: String,
}

impl Target {
    /// Reads and checks the host of a request that came by `scheme`.
    pub fn of<B>(request: &Request<B>, scheme: Scheme) -> Result<Self, Reason> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(header), None) = (hosts.next(), hosts.next()) else {
            return Err(Reason::BadHost);
        };
        let text = header.to_str().map_err(|_| Reason::BadHost)?;
        let host = normalise_host(text).ok_or(Reason::BadHost)?.into_owned();
        check_target(request.uri(), text, &host, scheme)?;
        Ok(Self { header: header.clone(), host })
    }
}

fn check_target(uri: &Uri, header: &str, host: &str, scheme: Scheme) -> Result<(), Reason> {
    // `*` has an authority over HTTP/2, and what is not ASCII is read in different ways.
    let is_path = |path: &PathAndQuery| path.path().starts_with('/') && path.as_str().is_ascii();
    if !uri.path_and_query().is_none_or(is_path) {
        return Err(Reason::BadTarget);
    }
    let Some(authority) = uri.authority() else {
        return if uri.path().starts_with('/') { Ok(()) } else { Err(Reason::BadTarget) };
    };
    let default_port = match uri.scheme_str() {
        Some("http") => Scheme::Http.default_port(),
        Some("https") => Scheme::Https.default_port(),
        _ => return Err(Reason::BadTarget),
    };
    if authority.as_str().contains('@') {
        return Err(Reason::BadTarget);
    }
    let named = normalise_host(authority.as_str()).ok_or(Reason::BadTarget)?;
    let port = authority.port_u16().unwrap_or(default_port);
    let header_port = Authority::try_from(header).ok().and_then(|header| header.port_u16());
    if *named != *host
        || port != header_port.unwrap_or(default_port)
        || uri.scheme_str() != Some(scheme.as_str())
    {
        return Err(Reason::TargetHostMismatch);
    }
    Ok(())
}

/// The path and query of a checked target, in origin form.
pub(crate) fn origin_form(uri: &Uri) -> PathAndQuery {
    match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => path.clone(),
        // An absolute target may have an empty path (RFC 9112, 3.2.1); it prints with the slash.
        Some(path) => PathAndQuery::try_from(path.to_string()).unwrap_or(PathAndQuery::from_static("/")),
        None => PathAndQuery::from_static("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(target: &str, hosts: &[&str]) -> Result<String, Reason> {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        Target::of(&request.body(()).expect("a request"), Scheme::Http).map(|target| target.host)
    }

    #[test]
    fn the_host_is_the_header_without_port_and_case() {
        assert_eq!(read("/", &["Example.COM:8080"]), Ok("example.com".into()));
        assert_eq!(read("/", &["[::1]:80"]), Ok("[::1]".into()));
    }

    #[test]
    fn a_host_that_is_none_or_two_is_bad() {
        for hosts in [&[][..], &[""], &["a", "a"], &["a b"], &["u@a"], &["a/b"], &["a,b"], &["a:1:2"]] {
            assert_eq!(read("/", hosts), Err(Reason::BadHost), "{hosts:?}");
        }
    }

    #[test]
    fn an_absolute_target_agrees_with_the_host_or_is_refused() {
        assert_eq!(read("http://A.example/x", &["a.example"]), Ok("a.example".into()));
        assert_eq!(read("http://a.example:80/x", &["a.example"]), Ok("a.example".into()));
        assert_eq!(read("http://a.example:8080", &["a.example:8080"]), Ok("a.example".into()));
        for (target, host) in [
            ("http://a.example/", "b.example"),
            ("http://a.example:81/", "a.example"),
            ("http://a.example/", "a.example:81"),
            ("https://a.example/", "a.example"),
        ] {
            assert_eq!(read(target, &[host]), Err(Reason::TargetHostMismatch), "{target} {host}");
        }
        for target in ["ftp://a.example/", "http://u@a.example/", "*", "a.example:80", "/\u{e4}", "/?\u{e4}"]
        {
            assert_eq!(read(target, &["a.example"]), Err(Reason::BadTarget), "{target}");
        }
    }

    #[test]
    fn a_star_is_no_path_also_where_it_comes_with_a_host() {
        // As `h2` puts together what HTTP/2 has in pieces.
        let uri = Uri::builder().scheme("http").authority("a.example").path_and_query("*");
        let request = Request::builder().uri(uri.build().expect("a URI")).header(HOST, "a.example");
        let read = Target::of(&request.body(()).expect("a request"), Scheme::Http);
        assert_eq!(read, Err(Reason::BadTarget));
    }

    #[test]
    fn the_origin_form_begins_with_a_slash() {
        for (target, form) in [
            ("/a?b=c", "/a?b=c"),
            ("http://a.example", "/"),
            ("http://a.example?x", "/?x"),
            ("http://a.example/y", "/y"),
        ] {
            assert_eq!(origin_form(&target.parse().expect("a URI")).as_str(), form, "{target}");
        }
    }
}
