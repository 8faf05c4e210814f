// Follows links inside of the dashboards without loading them anew.

import { route, type Route } from './route';

class Router {
  at = $state.raw<Route>(route(location.pathname));
  /** What the address says beside the page: filters and ranges, so that the address shows the same to others. */
  query = $state.raw(new URLSearchParams(location.search));

  start(): void {
    addEventListener('popstate', () => this.#read());
    document.addEventListener('click', (event) => {
      if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      const link = event.target instanceof Element ? event.target.closest('a') : null;
      if (!link || link.target || link.origin !== location.origin || link.hasAttribute('download')) return;
      if (route(link.pathname).page === 'missing') return;
      event.preventDefault();
      this.go(link.pathname + link.search);
    });
  }

  go(to: string): void {
    if (to !== location.pathname + location.search) history.pushState(null, '', to);
    this.#read();
    scrollTo(0, 0);
    document.querySelector<HTMLElement>('main')?.focus({ preventScroll: true });
  }

  /** Keeps a choice in the address; empty: the usual one. It is no step of the history. */
  keep(name: string, value: string): void {
    const query = new URLSearchParams(location.search);
    if (value === '') query.delete(name);
    else query.set(name, value);
    const text = query.toString();
    history.replaceState(history.state, '', location.pathname + (text === '' ? '' : `?${text}`));
    this.query = query;
  }

  #read(): void {
    this.at = route(location.pathname);
    this.query = new URLSearchParams(location.search);
  }
}

export const router = new Router();
