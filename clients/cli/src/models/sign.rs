//! `evctl models sign`.

use std::path::Path;

use ev_client::{
    Client, VersionRef,
    proto::ev::registry::v1::{GetVersionResponse, SignVersionResponse, Version},
};
use ev_models_core::{Digest, Manifest};
use ev_signing::SigningKey;

use super::gates::signature_text;
use crate::{exit::Exit, failure::Failure, json::Json, output::Output, style::BOLD, table::Listing};

pub(crate) async fn run(client: &Client, output: &Output, version: VersionRef, key: &Path) -> Result<Exit, Failure> {
    let key = read_key(key)?;
    let GetVersionResponse { version, manifest_json, .. } = client.registry().get_version(version).await?;
    let version = version.unwrap_or_default();
    let digest = digest_of(&version, &manifest_json)?;
    let signature = key.sign(&version.model, &digest);
    let public_key = key.public_key();
    let response = client
        .registry()
        .sign_version(&version.model, version.version, public_key.as_bytes(), signature.as_bytes())
        .await?;
    output.answer(&Json::new("ev.registry.v1.SignVersionResponse", &response), || render(&version, &response))?;
    Ok(Exit::Ok)
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let advice = ["make one with: evctl models keygen --out release.pem"];
    let text = fs_err::read_to_string(path).map_err(|error| Failure::usage(error.to_string(), &advice))?;
    text.parse().map_err(|error| Failure::usage(format!("{} cannot be used: {error}", path.display()), &advice))
}

/// The digest of the manifest that was sent, computed here: what is signed is what can be read.
fn digest_of(version: &Version, manifest_json: &str) -> Result<Digest, Failure> {
    let digest = Digest::of(manifest_json.as_bytes());
    let manifest = Manifest::parse_canonical(manifest_json.as_bytes())
        .map_err(|error| Failure::usage(format!("the server's manifest cannot be read: {error}"), &[]))?;
    if digest.to_string() != version.digest || manifest.model.name != version.model {
        let message = format!(
            "the server says {} of {}, its manifest is {digest} of {}",
            version.digest, version.model, manifest.model.name
        );
        return Err(Failure::usage(message, &["nothing was signed; see what is wrong with: evctl models verify"]));
    }
    Ok(digest)
}

fn render(version: &Version, response: &SignVersionResponse) -> String {
    let mut listing = Listing::default();
    listing.line("model", format!("{BOLD}{} version {}{BOLD:#} signed", version.model, version.version));
    listing.line("digest", &version.digest);
    if let Some(signature) = &response.signature {
        listing.line("key", signature_text(signature));
    }
    listing.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_what_the_server_says_is_not_signed() {
        let text = "[model]\nname = \"m\"\ntask = \"generic\"\ndescription = \"A.\"\nbackend = \"forest\"\nlicense = \"MIT\"\n\
                    [[inputs]]\nname = \"x\"\ndtype = \"FP32\"\n[[heads]]\nname = \"point\"\nfile = \"m.ubj\"\n\
                    [[outputs]]\nname = \"y\"\nkind = \"prediction\"\n";
        let canonical = Manifest::parse(text).expect("a manifest").canonical();
        let manifest = String::from_utf8(canonical).expect("text");
        let digest = Digest::of(manifest.as_bytes());
        let version = Version { model: "m".to_owned(), digest: digest.to_string(), ..Version::default() };
        assert_eq!(digest_of(&version, &manifest).ok(), Some(digest));
        let other = Version { model: "n".to_owned(), ..version.clone() };
        assert!(digest_of(&other, &manifest).expect_err("refused").to_string().contains(" of n, its manifest is "));
        let other = Version { digest: Digest::of(b"other").to_string(), ..version.clone() };
        assert!(digest_of(&other, &manifest).is_err());
        assert!(digest_of(&version, "{}").is_err());
    }
}
