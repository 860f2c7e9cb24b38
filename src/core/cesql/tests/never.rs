//! No text and no event makes an expression panic.

use proptest::prelude::*;

use super::*;

/// Everything the language has, and things beside it.
const TOKENS: [&str; 60] = [
    "AND",
    "OR",
    "XOR",
    "NOT",
    "LIKE",
    "IN",
    "EXISTS",
    "TRUE",
    "false",
    "(",
    ")",
    "(",
    ")",
    ",",
    ",",
    "=",
    "!=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "0",
    "1",
    "-1",
    "2147483647",
    "2147483648",
    "''",
    "'a%_'",
    "\"€\"",
    "'\\'",
    "'true'",
    "'12'",
    "type",
    "count",
    "least",
    "missing",
    "reason",
    "data",
    "data.n",
    "data.list[1].x",
    "data['it']",
    "mbtopic",
    "mbscope",
    "LENGTH(",
    "CONCAT(",
    "CONCAT_WS(",
    "LEFT(",
    "SUBSTRING(",
    "ABS(",
    "INT(",
    "IP_IN(",
    "'10.0.0.0/8'",
    "NOPE(",
    ".",
];

fn try_it(text: &str, event: &View<'_>) {
    match Expression::parse(text) {
        Ok(expression) => {
            drop(expression.evaluate(event));
            assert_eq!(
                expression.wants(event).is_ok_and(|wanted| wanted),
                expression.refusal(event.envelope()).is_none()
            );
        }
        Err(error) => drop((error.render(text), error.place(text))),
    }
}

/// A million with `MESHBUS_LONG=1`.
fn rounds() -> usize {
    if std::env::var_os("MESHBUS_LONG").is_some_and(|long| long != "0") { 1_000_000 } else { 20_000 }
}

#[test]
fn random_bytes_and_random_tokens_do_no_harm() {
    let event = event();
    let view = View::of(&event);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut bytes, mut text) = (Vec::new(), String::new());
    for _ in 0..rounds() {
        bytes.clear();
        let length = random.usize(..64);
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
        try_it(&String::from_utf8_lossy(&bytes), &view);
        for byte in &mut bytes {
            *byte = b' ' + *byte % 95;
        }
        try_it(&String::from_utf8_lossy(&bytes), &view);
        text.clear();
        for _ in 0..random.usize(1..16) {
            text.extend([TOKENS[random.usize(..TOKENS.len())], " "]);
        }
        try_it(&text, &view);
    }
}

proptest! {
    #[test]
    fn any_text_does_no_harm(text in any::<String>()) {
        try_it(&text, &View::of(&event()));
    }

    #[test]
    fn random_tokens_without_spaces_do_no_harm(tokens in proptest::collection::vec(proptest::sample::select(&TOKENS[..]), 0..40)) {
        try_it(&tokens.concat(), &View::of(&event()));
    }
}
