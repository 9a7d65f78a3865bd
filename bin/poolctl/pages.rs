//! Listings come in pages; commands show them whole.

use poold::client;

use crate::error::Error;

/// The rows of all pages: `page` asks for those that follow the rows there are, and says whether more follow.
pub(crate) fn all<Row>(
    mut page: impl FnMut(&[Row]) -> Result<(Vec<Row>, bool), Error>,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    loop {
        let (further, more) = page(&rows)?;
        if more && further.is_empty() {
            return Err(client::Error::UnexpectedReply.into());
        }
        rows.extend(further);
        if !more {
            return Ok(rows);
        }
    }
}
