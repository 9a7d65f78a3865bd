//! The tables `[function.NAME]`: functions that run a command, and what is set for others.
//!
//! All that can be wrong with a command is found here, so that no worker has to refuse it. Above all, that no
//! argument can become an option of the program, a part of a script, or nothing.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use regex_lite::Regex;
use toml::de::DeValue;

use super::file::environment;
use super::section::{Mistake, Section, Word as Located, integer};
use super::{Function, Pool, resources};
use crate::id::{FunctionName, RUN_FUNCTION};
use crate::limits::{COMMAND_ARGUMENTS_MAX, COMMANDS_BYTES_MAX, FUNCTIONS_PER_WORKER_MAX};
use crate::message::command::{CommandSpec, Word};
use crate::message::resources::AttemptLimits;
use crate::wire;

/// Programs that take a script after an option with a `c` in it.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "busybox"];

/// What `args` takes.
const ARGS_TAKES: &str = "a number of arguments such as 2, or { min = 1, max = 3 }";

/// The functions in the order of the file.
/// `pools` are those that serve them.
pub(super) fn functions(mut section: Section<'_>, pools: &[Pool]) -> Result<Vec<Function>, Mistake> {
    let mut functions = Vec::new();
    for (Located { offset, text }, section) in section.sections()? {
        let name = FunctionName::new(&text).map_err(|error| Mistake::new(offset, error.to_string()))?;
        if name.as_str() == RUN_FUNCTION {
            let message = format!("`{RUN_FUNCTION}` is what `poolctl run` calls; choose another name");
            return Err(Mistake::new(offset, message));
        }
        let function = function(name, section)?;
        resources::check_threads(&function, pools).map_err(|message| Mistake::new(offset, message))?;
        functions.push(function);
    }
    check_size(&section, &functions)?;
    Ok(functions)
}

/// Whether a worker can be told of all of them.
fn check_size(section: &Section<'_>, functions: &[Function]) -> Result<(), Mistake> {
    let commands: Vec<&CommandSpec> =
        functions.iter().filter_map(|function| function.command.as_ref()).collect();
    let bytes = wire::encode_value(&commands).map_or(usize::MAX, |bytes| bytes.len());
    // Built-in functions have the rest.
    let most = FUNCTIONS_PER_WORKER_MAX / 2;
    match (bytes, functions.len()) {
        (_, count) if count > most => {
            Err(section.mistake("", format!("{count} functions are configured and {most} is the most")))
        }
        (bytes, _) if bytes > COMMANDS_BYTES_MAX => Err(section.mistake(
            "",
            format!(
                "the functions take {bytes} bytes and {COMMANDS_BYTES_MAX} is the most; move long texts into files"
            ),
        )),
        _ => Ok(()),
    }
}

fn function(name: FunctionName, mut section: Section<'_>) -> Result<Function, Mistake> {
    let command = command(&name, &mut section)?;
    let timeout = section.duration("timeout")?;
    let limits = resources::of_function(&mut section)?;
    let command = command.map(|command| CommandSpec { limits, ..command });
    let function = Function { name, command, timeout, limits };
    if function.command.is_none() && function.timeout.is_none() && function.limits.is_empty() {
        let name = &function.name;
        let message = format!(
            "function `{name}` has no `exec`; name the program and its arguments, or set a limit for it"
        );
        return Err(section.mistake("exec", message));
    }
    section.finish()?;
    Ok(function)
}

/// The command that it runs, if it does.
fn command(name: &FunctionName, section: &mut Section<'_>) -> Result<Option<CommandSpec>, Mistake> {
    let Some(exec) = section.texts("exec")? else { return Ok(None) };
    let words = exec
        .iter()
        .map(|word| Word::parse(&word.text).map_err(|error| Mistake::new(word.offset, error.to_string())));
    let words = words.collect::<Result<Vec<Word>, Mistake>>()?;
    let options = section.flag("options")?.unwrap_or(false);
    check_words(&exec, &words, options)?;

    let last_argument = u64::from(COMMAND_ARGUMENTS_MAX - 1);
    let stdin = section.number("stdin", 0..=last_argument)?;
    let named: BTreeSet<u32> = words.iter().flat_map(Word::arguments).chain(stdin).collect();
    let takes_rest = words.contains(&Word::Rest);
    let args = arguments(section, &named, takes_rest)?;
    let patterns = patterns(section, named.len() + usize::from(takes_rest))?;
    let cwd = section.text("cwd")?;
    if cwd.as_ref().is_some_and(|cwd| !Path::new(cwd).is_absolute()) {
        return Err(section.mistake("cwd", "`cwd` takes a path that starts with `/`".to_owned()));
    }
    Ok(Some(CommandSpec {
        name: name.clone(),
        summary: section.text("summary")?.unwrap_or_default(),
        exec: exec.into_iter().map(|word| word.text).collect(),
        stdin,
        cwd,
        env: environment(section.section("env")?)?,
        args_min: *args.start(),
        args_max: *args.end(),
        patterns,
        options,
        limits: AttemptLimits::default(),
    }))
}

/// Whether the program is named, and no argument can become more than an argument.
fn check_words(exec: &[Located], words: &[Word], options: bool) -> Result<(), Mistake> {
    let program = words.iter().zip(exec).next();
    if let Some((_, located)) = program.filter(|(word, located)| !word.is_fixed() || located.text.is_empty())
    {
        let message = "the program is named in the file; an argument cannot choose it".to_owned();
        return Err(Mistake::new(located.offset, message));
    }
    let mut is_past_options = options;
    for (index, (word, located)) in words.iter().zip(exec).enumerate() {
        let starts_with_dash = located.text.starts_with('-');
        if starts_with_dash && word.is_open() && !is_past_options {
            let message = format!(
                "`{}` lets an argument choose an option; write the option out, or set options = true",
                located.text
            );
            return Err(Mistake::new(located.offset, message));
        }
        if !word.is_fixed() && is_script(&exec[..index]) {
            let message =
                "an argument here would be run as a part of the script; write \"$1\" in the script, \
                 and after it \"--\" and the argument as words of their own"
                    .to_owned();
            return Err(Mistake::new(located.offset, message));
        }
        is_past_options |= located.text == "--";
    }
    Ok(())
}

/// Whether the word behind `before` is a shell's script.
fn is_script(before: &[Located]) -> bool {
    let Some((option, before)) = before.split_last() else { return false };
    let is_shell = |word: &Located| {
        let program = Path::new(&word.text).file_name().and_then(|name| name.to_str());
        program.is_some_and(|program| SHELLS.contains(&program))
    };
    let option = option.text.strip_prefix('-').filter(|letters| !letters.starts_with('-'));
    option.is_some_and(|letters| letters.contains('c')) && before.iter().any(is_shell)
}

/// How many arguments it takes: those that are named, and with `{*}` any number more unless `args` says
/// otherwise. Each has a place, so that none is lost.
fn arguments(
    section: &mut Section<'_>,
    named: &BTreeSet<u32>,
    takes_rest: bool,
) -> Result<RangeInclusive<u32>, Mistake> {
    let count = named.len() as u32;
    if let Some(unused) = (0..count).find(|number| !named.contains(number)) {
        let message =
            format!("`{{{unused}}}` has no place while later arguments have; number them from 0 on");
        return Err(section.mistake("exec", message));
    }
    let given = section.value("args", ARGS_TAKES, |value| {
        let number = |value: &DeValue<'_>| {
            integer(value)
                .and_then(|number| u32::try_from(number).ok())
                .filter(|n| *n <= COMMAND_ARGUMENTS_MAX)
        };
        let DeValue::Table(table) = value else { return number(value).map(|count| count..=count) };
        let of = |key: &str| table.get(key).map(|value| number(value.get_ref()));
        let known = table.keys().all(|key| ["min", "max"].contains(&key.get_ref().as_ref()));
        let range = of("min").unwrap_or(Some(count))?..=of("max").unwrap_or(Some(COMMAND_ARGUMENTS_MAX))?;
        Some(range).filter(|range| known && !range.is_empty())
    })?;
    match given {
        None if takes_rest => Ok(count..=COMMAND_ARGUMENTS_MAX),
        None => Ok(count..=count),
        Some(args) if takes_rest && *args.start() >= count => Ok(args),
        Some(args) if !takes_rest && args == (count..=count) => Ok(args),
        Some(_) => {
            let rest = if takes_rest { "at least " } else { "" };
            let message = format!(
                "`args` does not go with `exec` and `stdin`, which take {rest}{count}; correct one of them, or add \"{{*}}\""
            );
            Err(section.mistake("args", message))
        }
    }
}

/// A pattern for each place, or none at all.
fn patterns(section: &mut Section<'_>, places: usize) -> Result<Vec<String>, Mistake> {
    let Some(patterns) = section.texts("patterns")? else { return Ok(Vec::new()) };
    if patterns.len() != places {
        let message = format!(
            "`patterns` has {} and the function takes {places} arguments (`{{*}}` is one); give one for each, \".*\" for any",
            patterns.len()
        );
        return Err(section.mistake("patterns", message));
    }
    let patterns = patterns.into_iter().map(|Located { offset, text }| match Regex::new(&text) {
        Ok(_) => Ok(text),
        Err(error) => {
            let shown = text.escape_debug();
            Err(Mistake::new(offset, format!("`{shown}` is not a regular expression: {error}")))
        }
    });
    patterns.collect()
}
