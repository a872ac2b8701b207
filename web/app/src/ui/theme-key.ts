/** Where the chosen theme is kept, for the page and for the script that runs before it. */
export const THEME_KEY = "moxel-theme";
