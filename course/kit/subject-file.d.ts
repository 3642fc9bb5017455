/** The path of the file that the same import without `?file` stands for: for processes that load it themselves. */
declare module '*?file' {
  const path: string;
  export default path;
}
