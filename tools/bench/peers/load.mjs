// Imports a package from this folder's node_modules, wherever the caller stands.
export const load = (name) => import(name);
