//! The archive as one SQLite file: `store` has its queries, `identity` notices when it is taken away,
//! `work` converts, rescues and deletes in slices, `schema` and `rows` know the tables.

mod identity;
mod rows;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod work;

pub(super) use identity::inode;
pub(super) use schema::{SCHEMA_VERSION, check};
pub use store::Store;
