//! The page's paths with real programs: the page's files, who may see what, the rows, the limits,
//! live streams.

mod answers;
mod live;
mod page;
