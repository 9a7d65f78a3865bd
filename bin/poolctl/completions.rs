//! `poolctl completions`: what a shell needs to complete a command line of `poolctl`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::error::{Error, OK};
use crate::output;

/// Print a script that completes `poolctl` command lines in a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, mut command: Command) -> Result<u8, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "poolctl", &mut script);
        output::print(script)?;
        Ok(OK)
    }
}
