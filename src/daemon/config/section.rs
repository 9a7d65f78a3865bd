//! A TOML table that is read key by key, so that every mistake has its place in the file.
//!
//! It knows types and positions, not what the keys mean. A key that nobody has asked for by the time
//! of [`Section::finish`] is a mistake too.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use bytesize::ByteSize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How alike two keys must be, from 0 to 1, for one to be taken as a slip of the pen for the other.
const LIKENESS_MIN: f64 = 0.7;

/// Characters of a wrong value that are repeated in the message about it.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// Something wrong at one place of the text.
#[derive(Debug)]
pub(super) struct Mistake {
    /// Bytes before the place.
    offset: usize,
    /// What is wrong there, and what would be right; one line.
    pub(super) message: String,
}

impl Mistake {
    pub(super) fn new(offset: usize, message: String) -> Self {
        Mistake { offset, message }
    }

    /// Line and column, in characters, both from 1.
    pub(super) fn position(&self, text: &[u8]) -> (usize, usize) {
        let before = &text[..self.offset.min(text.len())];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
    }
}

/// A text of the operator's choosing, and its place.
pub(super) struct Word {
    /// Bytes before it.
    pub(super) offset: usize,
    pub(super) text: String,
}

/// A table and the keys that were asked for so far.
pub(super) struct Section<'text> {
    text: &'text str,
    /// As its header writes it: `[pool.cpu]`; empty for the top of the file.
    header: String,
    offset: usize,
    /// What nobody has asked for yet.
    table: DeTable<'text>,
    /// Every key that was asked for, and where its value is if there is one.
    asked: BTreeMap<&'static str, Option<usize>>,
}

impl<'text> Section<'text> {
    /// The top of a file.
    pub(super) fn parse(text: &'text str) -> Result<Self, Mistake> {
        let table = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(text.len(), |span| span.start);
            Mistake::new(offset, format!("not valid TOML: {}", error.message().replace('\n', ", ")))
        })?;
        Ok(Section::new(text, String::new(), table))
    }

    fn new(text: &'text str, header: String, table: Spanned<DeTable<'text>>) -> Self {
        let offset = table.span().start;
        Section { text, header, offset, table: table.into_inner(), asked: BTreeMap::new() }
    }

    /// A duration above zero.
    pub(super) fn duration(&mut self, key: &'static str) -> Result<Option<Duration>, Mistake> {
        self.value(key, r#"a duration above zero such as "30s" or "1h 30m""#, |value| {
            humantime::parse_duration(value.as_str()?).ok().filter(|duration| !duration.is_zero())
        })
    }

    /// A number of bytes above zero.
    pub(super) fn bytes<T: TryFrom<u64>>(&mut self, key: &'static str) -> Result<Option<T>, Mistake> {
        self.value(key, r#"a size above zero such as "64 MiB" or a number of bytes"#, |value| {
            let bytes = size(value)?;
            T::try_from(bytes).ok().filter(|_| bytes > 0)
        })
    }

    /// A number of bytes.
    pub(super) fn bytes_from_zero(&mut self, key: &'static str) -> Result<Option<u64>, Mistake> {
        self.value(key, r#"a size such as "64 MiB" or a number of bytes"#, size)
    }

    /// A whole number within `range`.
    pub(super) fn number<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<T>, Mistake> {
        let takes = match (range.start(), range.end()) {
            (from, &u64::MAX) => format!("a whole number from {from}"),
            (from, to) => format!("a whole number from {from} to {to}"),
        };
        self.value(key, &takes, |value| {
            integer(value).filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok())
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, Mistake> {
        self.value(key, "true or false", DeValue::as_bool)
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Mistake> {
        self.value(key, "a text in quotes that is not empty", |value| {
            system_text(value).filter(|text| !text.is_empty())
        })
    }

    /// A list of texts, at least one; each with its place.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Option<Vec<Word>>, Mistake> {
        self.value(key, r#"a list of texts such as ["one", "two"]"#, |value| {
            words(value).filter(|words| !words.is_empty())
        })
    }

    /// A list of texts, which may be empty; each with its place.
    pub(super) fn list(&mut self, key: &'static str, takes: &str) -> Result<Option<Vec<Word>>, Mistake> {
        self.value(key, takes, words)
    }

    /// Whatever `read` makes of a value; what it makes nothing of is a mistake, as `takes` explains.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        takes: &str,
        read: impl FnOnce(&DeValue<'text>) -> Option<T>,
    ) -> Result<Option<T>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match read(value.get_ref()) {
            Some(read) => Ok(Some(read)),
            None => Err(self.wrong(value.span(), &format!("`{key}` takes {takes}"))),
        }
    }

    /// The table under `key`; an empty one if the file has none.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Section<'text>, Mistake> {
        let value = self.take(key).unwrap_or_else(|| Spanned::new(0..0, DeValue::Table(DeTable::new())));
        let header = self.header_of(key);
        self.child(value, &format!("{header} is a table of keys"), header)
    }

    /// Every table in this one, with its name, in the order of the file.
    pub(super) fn sections(&mut self) -> Result<Vec<(Word, Section<'text>)>, Mistake> {
        let takes =
            format!("{} holds only tables with a name such as {}", self.header, self.header_of("NAME"));
        let sections = self.entries().into_iter().map(|(name, value)| {
            let header = self.header_of(&name.text);
            Ok((name, self.child(value, &takes, header)?))
        });
        sections.collect()
    }

    /// Every text in this table, with its name.
    pub(super) fn texts_by_name(mut self) -> Result<Vec<(Word, String)>, Mistake> {
        let texts = self.entries().into_iter().map(|(name, value)| match system_text(value.get_ref()) {
            Some(text) => Ok((name, text)),
            None => Err(self.wrong(value.span(), &format!("{} holds only texts in quotes", self.header))),
        });
        texts.collect()
    }

    /// Every list of texts in this table, with its name.
    pub(super) fn lists_by_name(mut self, takes: &str) -> Result<Vec<(Word, Vec<Word>)>, Mistake> {
        let lists = self.entries().into_iter().map(|(name, value)| match words(value.get_ref()) {
            Some(words) => Ok((name, words)),
            None => {
                let key = name.text.escape_debug();
                Err(self.wrong(value.span(), &format!("`{key}` in {} takes {takes}", self.header)))
            }
        });
        lists.collect()
    }

    /// A mistake at the value of `key`, or at the head of the table if it has none.
    pub(super) fn mistake(&self, key: &str, message: String) -> Mistake {
        let offset = self.asked.get(key).copied().flatten();
        Mistake::new(offset.unwrap_or(self.offset), message)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// The first key, in the order of the file, that nobody has asked for.
    pub(super) fn finish(self) -> Result<(), Mistake> {
        let Some(unknown) = self.table.keys().min_by_key(|key| key.span().start) else { return Ok(()) };
        let near = self
            .asked
            .keys()
            .map(|known| (strsim::jaro_winkler(known, unknown.get_ref()), known))
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
            .max_by(|(one, _), (other, _)| one.total_cmp(other));
        let advice = match near {
            Some((_, known)) => format!("did you mean `{known}`?"),
            None => {
                let known: Vec<&str> = self.asked.keys().copied().collect();
                format!("the keys here are {}", known.join(", "))
            }
        };
        let place = if self.header.is_empty() { String::new() } else { format!(" in {}", self.header) };
        let key = unknown.get_ref().escape_debug();
        Err(Mistake::new(unknown.span().start, format!("unknown key `{key}`{place}; {advice}")))
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'text>>> {
        let value = self.table.remove(key);
        self.asked.insert(key, value.as_ref().map(|value| value.span().start));
        value
    }

    /// What nobody has asked for, in the order of the file.
    fn entries(&mut self) -> Vec<(Word, Spanned<DeValue<'text>>)> {
        let mut entries: Vec<_> = std::mem::take(&mut self.table).into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let named = entries.into_iter().map(|(key, value)| {
            (Word { offset: key.span().start, text: key.into_inner().into_owned() }, value)
        });
        named.collect()
    }

    fn child(
        &self,
        value: Spanned<DeValue<'text>>,
        takes: &str,
        header: String,
    ) -> Result<Section<'text>, Mistake> {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else { return Err(self.wrong(span, takes)) };
        Ok(Section::new(self.text, header, Spanned::new(span, table)))
    }

    fn header_of(&self, key: &str) -> String {
        match self.header.strip_suffix(']') {
            Some(header) => format!("{header}.{}]", key.escape_debug()),
            None => format!("[{key}]"),
        }
    }

    /// A mistake at `span`, whose value is not what is taken there.
    fn wrong(&self, span: Range<usize>, takes: &str) -> Mistake {
        let value = shown(self.text.get(span.clone()).unwrap_or_default());
        Mistake::new(span.start, format!("{takes}, not `{value}`"))
    }
}

/// A whole number that is not negative.
pub(super) fn integer(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A number of bytes, which may be written with a unit.
fn size(value: &DeValue<'_>) -> Option<u64> {
    match value.as_str() {
        Some(text) => Some(text.parse::<ByteSize>().ok()?.as_u64()),
        None => integer(value),
    }
}

/// A text that can be handed to the system as a path, a name or an argument: it holds no zero byte.
fn system_text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().filter(|text| !text.contains('\0')).map(str::to_owned)
}

/// The texts of an array, each with its place.
fn words(value: &DeValue<'_>) -> Option<Vec<Word>> {
    let elements = value.as_array()?.iter();
    let words = elements
        .map(|element| Some(Word { offset: element.span().start, text: system_text(element.get_ref())? }));
    words.collect()
}

/// A value as the file writes it, cut to one short line.
fn shown(source: &str) -> String {
    let mut characters = source.chars();
    let mut shown = String::new();
    for character in characters.by_ref().take(SHOWN_CHARACTERS_MAX) {
        match character.is_control() {
            true => shown.extend(character.escape_debug()),
            false => shown.push(character),
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}
