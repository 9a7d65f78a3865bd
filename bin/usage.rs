//! A wrong command line, told in one line. Both binaries have this file.

/// What is wrong, what may have been meant, and the command whose help says more: the paragraphs of
/// `error` up to its usage, without their labels.
pub(crate) fn usage_line(error: &clap::Error, command: &str) -> String {
    let text = error.to_string();
    let said =
        text.split("\n\n").take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let parts = said.map(|part| {
        let line = part.split_whitespace().collect::<Vec<&str>>().join(" ");
        ["error: ", "tip: "].iter().find_map(|label| line.strip_prefix(label)).unwrap_or(&line).to_owned()
    });
    format!("{}; `{command} --help` says more", parts.collect::<Vec<String>>().join("; "))
}
