use proptest::prelude::*;

use super::*;

#[track_caller]
fn fault(text: &str) -> (usize, usize, String, String) {
    let fault = Condition::parse(text).map(|_| ()).expect_err(text);
    (fault.line, fault.column, fault.message, fault.remedy)
}

#[test]
fn the_examples_of_everyday_are_conditions() {
    for text in [
        "true",
        "websocket",
        "!websocket && method != \"GET\"",
        "path.startsWith(\"/admin\") && !in_network(client_ip, \"10.0.0.0/8\")",
        "host.endsWith(\".example.com\") || sni == \"\"",
        "\"x-debug\" in headers && headers[\"x-debug\"] == \"1\"",
        "has(headers.cookie) && headers.cookie.size() > 2048",
        "headers.exists(name, name.startsWith(\"x-evil\"))",
        "lower(path).matches(\"\\\\.(php|asp)$\")",
        "matches(decode(query), \"(?i)union\\\\s+select\")",
        "country in [\"AT\", \"CH\"] && tls_version == \"1.2\" && http_version == \"1.1\"",
        "size(query) > 10 ? raw_path != path : zone == \"a\"",
    ] {
        let condition = Condition::parse(text);
        assert!(condition.is_ok(), "{text}: {condition:?}");
    }
}

#[test]
fn faults_name_the_place_within_the_expression() {
    let (line, column, message, remedy) = fault("path == \"/\" &&\n  pth == \"x\"");
    assert_eq!((line, column), (2, 3), "{message}");
    assert!(message.contains("`pth`") && remedy.contains("did you mean `path`"), "{message} {remedy}");

    let (line, column, message, remedy) = fault("path.startWith(\"/\")");
    assert!((line, column) <= (1, 15), "{line}:{column}");
    assert!(message.contains("`startWith`") && remedy.contains("`startsWith`"), "{message} {remedy}");

    let (line, column, message, _) = fault("path ==\n== 1");
    assert_eq!(line, 2, "{column} {message}");

    let (line, column, message, _) = fault("\"ä\" == path && path.matches(\"(\")");
    assert_eq!((line, column), (1, 29), "{message}");
    assert!(message.contains("is no pattern: unclosed group"), "{message}");

    let (_, _, message, _) = fault("in_network(client_ip, \"10.0.0.0/33\")");
    assert!(message.contains("is no network"), "{message}");
}

#[test]
fn what_is_no_condition_is_refused() {
    for text in [
        "path",
        "1",
        "size(path)",
        "path + \"x\"",
        "headers[\"a\"]",
        "headers.a",
        "[1]",
        "{}",
        "true ? path : \"\"",
        "[1].map(x, x)",
    ] {
        let (_, _, message, _) = fault(text);
        assert!(message.contains("not true or false"), "{text}: {message}");
    }
}

#[test]
fn patterns_and_networks_are_compiled_beforehand_or_refused() {
    for text in
        ["path.matches(query)", "in_network(client_ip, query)", "in_network(client_ip, headers[\"x\"])"]
    {
        let (_, _, message, _) = fault(text);
        assert!(message.contains("has to be a string in quotes"), "{text}: {message}");
    }
    // A small text, a large machine.
    let (_, _, message, _) = fault("path.matches(\"(\\\\pL{1000}){1000}\")");
    assert!(message.contains("is no pattern"), "{message}");

    let condition =
        Condition::parse("path.matches(\"^/a\") && in_network(client_ip, \"10.1.2.3/8\")").unwrap();
    let [Literal::Pattern(_), Literal::Network(network)] = condition.literals() else {
        panic!("{:?}", condition.literals())
    };
    assert_eq!(network.to_string(), "10.0.0.0/8");
}

#[test]
fn an_expression_knows_what_it_uses() {
    let condition = Condition::parse("path == \"/\" && headers.exists(host, host == \"x\")").unwrap();
    assert!(condition.uses("path") && condition.uses("headers"));
    assert!(!condition.uses("host"), "a variable of a comprehension hides that of the request");
}

#[test]
fn expressions_are_bounded() {
    let bomb = |text: &str, why: &str| {
        let (_, _, message, _) = fault(text);
        assert!(message.contains(why), "{message}");
    };
    bomb(&format!("path == \"{}\"", "a".repeat(4096)), "more than 4096");
    bomb(&format!("path in [{}]", "1,".repeat(600)), "more than 500 parts");
    bomb(&format!("path == path{}", "+path".repeat(17)), "more than 16 additions");
    bomb(
        "headers.all(a, headers.all(b, headers.all(c, a == b || b == c)))",
        "more than 2 comprehensions within one another",
    );
    fault(&format!("{}true{}", "(".repeat(2000), ")".repeat(2000)));
    fault(&format!("headers{} == \"\"", ".a".repeat(2000)));
    fault(&format!("{}true", "true ? true : ".repeat(200)));
    let _ = Condition::parse(&format!("{}true", "!".repeat(4000)));
    let _ = Condition::parse(&format!("0 < {}1", "- ".repeat(2000)));
    fault(&"[".repeat(4096));
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,200}") {
        let _ = Condition::parse(&text);
    }

    #[test]
    fn no_mix_of_its_words_breaks_the_parser(words in proptest::collection::vec(
        prop::sample::select(vec!["path", ".", "matches", "(", ")", "\"", "\"a\"", "[", "]", "{", "}", "&&", "!", "?", ":", "-", "1", "in", "all", "x", ",", "\n", "\\", "r'", "headers"]),
        0..30,
    )) {
        let _ = Condition::parse(&words.join(""));
        let _ = Condition::parse(&words.join(" "));
    }
}
