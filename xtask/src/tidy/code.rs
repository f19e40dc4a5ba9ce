//! Rust text without comments and literals, for rules that look for words.

/// `text` with comments and the contents of string and character literals replaced by spaces. Line breaks
/// stay, so every remaining character keeps its line and column.
pub(crate) fn only(text: &str) -> String {
    let mut blank = Blank {
        rest: text,
        out: String::with_capacity(text.len()),
        word: false,
    };
    while !blank.rest.is_empty() {
        blank.step();
    }
    blank.out
}

struct Blank<'a> {
    rest: &'a str,
    out: String,
    /// Whether the last character belongs to a word: the `r` of `for"` opens no raw string.
    word: bool,
}

impl Blank<'_> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.hide(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.hide(block_comment(rest));
        } else if let Some(length) = (!self.word).then(|| raw_string(rest)).flatten() {
            self.hide(length);
        } else if rest.starts_with('"') {
            self.hide(quoted(rest, '"'));
        } else if let Some(length) = character(rest) {
            self.hide(length);
        } else if let Some(next) = rest.chars().next() {
            self.out.push(next);
            self.word = next.is_alphanumeric() || next == '_';
            self.rest = &rest[next.len_utf8()..];
        }
    }

    fn hide(&mut self, length: usize) {
        let (hidden, rest) = self.rest.split_at(length);
        self.out
            .extend(hidden.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
        self.word = false;
    }
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a raw string, or of a raw byte or C string, at the start of `text`.
fn raw_string(text: &str) -> Option<usize> {
    let body = ["r", "br", "cr"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let content = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - content.len();
    Some(
        content
            .find(&end)
            .map_or(text.len(), |found| start + found + end.len()),
    )
}

/// The length of a literal that opens with `quote` at the start of `text`.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let first = body.chars().next()?;
    let closes = body[first.len_utf8()..].starts_with('\'');
    (first == '\\' || closes).then(|| quoted(text, '\''))
}
