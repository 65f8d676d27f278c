//! Pages of listings.

use crate::RegistryError;

/// Which page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Most entries, 1 to [`Page::MAX_SIZE`]; 0 means [`Page::DEFAULT_SIZE`].
    pub size: u32,
    /// [`Listing::next`] of the page before; none for the first page.
    pub token: Option<String>,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// Entries, in the listing's order.
    pub items: Vec<T>,
    /// Token of the page after; none on the last page.
    pub next: Option<String>,
}

// === impl Page ===

impl Page {
    /// Entries of a page when the caller does not say.
    pub const DEFAULT_SIZE: u32 = 100;
    /// Most entries of a page: about half a megabyte of versions.
    pub const MAX_SIZE: u32 = 1000;

    /// Entries to return.
    pub(crate) fn limit(&self) -> Result<u32, RegistryError> {
        match self.size {
            0 => Ok(Self::DEFAULT_SIZE),
            size if size <= Self::MAX_SIZE => Ok(size),
            size => Err(invalid(format!("it has size {size}, expected at most {}", Self::MAX_SIZE))),
        }
    }

    /// The name the page begins after.
    pub(crate) fn after_name(&self) -> Result<Option<&str>, RegistryError> {
        let token = self.token();
        if token.is_some_and(|name| name.len() > 63 || name.chars().any(char::is_control)) {
            return Err(invalid("its token is not one this listing gave"));
        }
        Ok(token)
    }

    /// The version the page ends before.
    pub(crate) fn before_version(&self) -> Result<Option<u32>, RegistryError> {
        let parse = |token: &str| token.parse().map_err(|_| invalid("its token is not one this listing gave"));
        self.token().map(parse).transpose()
    }

    fn token(&self) -> Option<&str> {
        self.token.as_deref().filter(|token| !token.is_empty())
    }
}

// === impl Listing ===

impl<T> Listing<T> {
    /// A page of `limit` entries, given one more where there are more.
    pub(crate) fn cut(mut items: Vec<T>, limit: u32, token: impl FnOnce(&T) -> String) -> Listing<T> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(token);
        Listing { items, next }
    }
}

fn invalid(problem: impl Into<String>) -> RegistryError {
    RegistryError::InvalidPage { problem: problem.into() }
}
