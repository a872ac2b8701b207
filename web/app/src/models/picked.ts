// Files and folders that the user picked or dropped.

/** The files among what was dropped; folders are read to the bottom. */
export async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  // Entries have to be asked for before the first await: the list is empty afterwards.
  const dropped = [...transfer.items].map((item) => item.webkitGetAsEntry() ?? item.getAsFile());
  const files = await Promise.all(dropped.map((one) => (one instanceof File ? [one] : one ? filesOf(one) : [])));
  return files.flat();
}

async function filesOf(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) {
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  // A reader gives some hundred entries at a time, and none when it is through.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break;
    found.push(...some);
  }
  return (await Promise.all(found.map(filesOf))).flat();
}

/** What was picked, as a model: one GGUF file, or the files of a folder with `config.json`; or why it is none. */
export function modelOfFiles(files: File[]): { name: string; model: File | File[] } | { problem: string } {
  const gguf = files.filter(({ name }) => name.toLowerCase().endsWith(".gguf"));
  const [first] = gguf;
  if (first && gguf.length === 1) return { name: first.name.replace(/\.gguf$/i, ""), model: first };
  // A GGUF file may be split into several.
  if (first) return { name: first.name.replace(/(-\d+-of-\d+)?\.gguf$/i, ""), model: gguf };
  if (files.some(({ name }) => name === "config.json")) return { name: folderOf(files) ?? "Picked folder", model: files };
  if (files.length === 0) return { problem: "There are no files in what was picked." };
  return { problem: "Nothing in what was picked is a GGUF file, and there is no config.json in it. Pick a GGUF file, or the folder of a model." };
}

function folderOf(files: File[]): string | undefined {
  const path = files.find(({ name }) => name === "config.json")?.webkitRelativePath;
  return path?.split("/").at(-2);
}
