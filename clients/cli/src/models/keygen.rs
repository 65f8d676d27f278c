//! `evctl models keygen`.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use ev_signing::SigningKey;
use fs_err::OpenOptions;
use serde::Serialize;

use crate::{exit::Exit, failure::Failure, output::Output, style::BOLD, table::Listing};

#[derive(Debug, Serialize)]
struct Made {
    key_id: String,
    private_key: PathBuf,
    public_key: PathBuf,
    /// For `registry.trusted_keys`.
    trusted_key: String,
}

pub(crate) fn run(output: &Output, private_key: &Path) -> Result<Exit, Failure> {
    let mut public_key = OsString::from(private_key);
    public_key.push(".pub");
    let public_key = PathBuf::from(public_key);
    let key = SigningKey::generate().map_err(|error| Failure::usage(error.to_string(), &[]))?;
    write(private_key, &key.to_pem(), true)?;
    write(&public_key, &key.public_key().to_pem(), false)?;
    let made = Made {
        key_id: key.public_key().id().to_string(),
        private_key: private_key.to_owned(),
        public_key,
        trusted_key: key.public_key().to_string(),
    };
    output.answer(&made, || render(&made))?;
    Ok(Exit::Ok)
}

fn render(made: &Made) -> String {
    let mut listing = Listing::default();
    listing.line("key", format!("{BOLD}{}{BOLD:#}", made.key_id));
    listing.line("private", format!("{}, for nobody else to read", made.private_key.display()));
    listing.line("public", made.public_key.display().to_string());
    listing.line("trust it", format!("registry.trusted_keys = [\"{}\"]", made.trusted_key));
    listing.render()
}

/// Writes a file that is not there yet: a key that is overwritten is lost.
fn write(path: &Path, text: &str, secret: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        use fs_err::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = secret;
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::usage(
            format!("{} is there already, and a key is not overwritten", path.display()),
            &["choose another file with --out"],
        ),
        _ => Failure::Input(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;

    #[test]
    fn keys_are_written_for_their_owner_and_never_over_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("release.pem");
        run(&Output::new(Format::Json), &path).expect("made");
        let key: SigningKey = fs_err::read_to_string(&path).expect("written").parse().expect("a key");
        let public = fs_err::read_to_string(directory.path().join("release.pem.pub")).expect("written");
        assert_eq!(public.parse(), Ok(key.public_key()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs_err::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{mode:o}");
        }
        let refused = run(&Output::new(Format::Json), &path).expect_err("refused");
        assert!(refused.to_string().contains("is there already"), "{refused}");
        assert_eq!(fs_err::read_to_string(&path).expect("written"), key.to_pem());
    }
}
