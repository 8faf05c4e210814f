// Follows links inside of the dashboards without loading them anew.

import { route, type Route } from './route';

class Router {
  at = $state.raw<Route>(route(location.pathname, location.search));

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

  #read(): void {
    this.at = route(location.pathname, location.search);
  }
}

export const router = new Router();
