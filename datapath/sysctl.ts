/**
 * Where the kernel's settings are. A managed plugin's own /proc/sys is read-only; what of it belongs
 * to the network is mounted beside (plugin.json), and is that of this process's network either way.
 */
import { existsSync } from 'node:fs'

const folder = existsSync('/host/proc/sys/net') ? '/host/proc/sys' : '/proc/sys'

/** The file of a setting such as `net/ipv4/ip_forward`. */
export function settingFile(path: string): string {
  return `${folder}/${path}`
}
