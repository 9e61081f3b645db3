//! Writes the manual pages of the program, and its completions for bash, zsh and fish, into a directory.
//! `dist/build` runs it for packages; it is not part of the program.

use std::fs::create_dir_all;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use wxapp_portrait_exporter::cli::Cli;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1);
    write(directory.as_deref().unwrap_or(".".as_ref()).as_ref())
}

/// Writes the files into `man` and `completions` below the directory.
pub(crate) fn write(directory: &Path) -> std::io::Result<()> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    create_dir_all(&man)?;
    create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command(), man)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let name = env!("CARGO_PKG_NAME");
        clap_complete::generate_to(shell, &mut Cli::command(), name, &completions)?;
    }
    // The script spells a name with hyphens in two ways, so no flag of a command would be completed:
    // https://github.com/clap-rs/clap/issues/6421
    let bash = completions.join(concat!(env!("CARGO_PKG_NAME"), ".bash"));
    let script = std::fs::read_to_string(&bash)?;
    let [wrong, right] = ["__subcmd__", "__"].map(|by| env!("CARGO_PKG_NAME").replace('-', by));
    std::fs::write(bash, script.replace(&wrong, &right))
}
